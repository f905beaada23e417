/** The board in a headless Chromium, served from an origin of its own. */

import { readFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import { createRequire } from "node:module";
import type { AddressInfo } from "node:net";
import { extname, join, normalize } from "node:path";
import type { AxeResults } from "axe-core";
import { type Browser, type BrowserContextOptions, chromium, type Page } from "playwright-core";

const TYPES: Readonly<Record<string, string>> = {
  ".css": "text/css",
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript",
};

/** Serves the built page, with settings that name the service. */
export class Site {
  /** Address of the service. */
  service = "";
  readonly #server: Server;

  private constructor() {
    this.#server = createServer(async ({ url = "/" }, answer) => {
      const path = new URL(url, "http://site").pathname;
      if (path === "/settings.json") return answer.end(JSON.stringify({ server: this.service }));
      const file = join("dist", normalize(path === "/" ? "/index.html" : path));
      const content = await readFile(file).catch(() => undefined);
      answer.writeHead(content ? 200 : 404, { "content-type": TYPES[extname(file)] ?? "text/plain" });
      return answer.end(content);
    });
  }

  static async open(): Promise<Site> {
    const site = new Site();
    await new Promise<void>((resolve) => site.#server.listen(0, "127.0.0.1", resolve));
    return site;
  }

  get origin(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  close(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }
}

export function launch(): Promise<Browser> {
  const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
  return chromium.launch({ executablePath, args: ["--no-sandbox"] });
}

export interface Seen {
  page: Page;
  /** What the page has written to the console, and failures of its scripts. */
  said: string[];
}

/** Opens the page at a place. */
export async function openPage(
  browser: Browser,
  site: Site,
  hash: string,
  options: BrowserContextOptions = {},
): Promise<Seen> {
  const context = await browser.newContext({ locale: "sv-SE", viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  const said: string[] = [];
  page.on("console", (message) => said.push(message.text()));
  page.on("pageerror", (error) => said.push(String(error)));
  await page.goto(`${site.origin}/${hash}`);
  return { page, said };
}

const AXE = createRequire(import.meta.url).resolve("axe-core/axe.min.js");

/** Returns what axe finds wrong with the page, which lets scripts of tests in (`bypassCSP`). */
export async function violations(page: Page): Promise<string[]> {
  await page.addScriptTag({ path: AXE });
  const run = () => (globalThis as unknown as { axe: { run(): Promise<AxeResults> } }).axe.run();
  const { violations: found } = await page.evaluate(run);
  return found.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" | ")}`);
}
