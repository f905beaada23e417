/** The board before a closed service: tokens, protected identity, and what the page leaves behind. */

import { generateKeyPairSync, sign } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Browser } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Protection } from "../../careinvitation/v1/booking_request_pb.js";
import { launch, openPage, Site, violations } from "../page.js";
import { HSA_ID, PATIENTS, Service } from "../service.js";

const { privateKey, publicKey } = generateKeyPairSync("ed25519");
const STAFF = "booking.read booking.write worklist.read";

let browser: Browser;
let site: Site;
let service: Service;
let folder: string;

beforeAll(async () => {
  browser = await launch();
  site = await Site.open();
  folder = await mkdtemp(join(tmpdir(), "keys-"));
  const keys = join(folder, "keys.json");
  await writeFile(keys, JSON.stringify({ keys: [{ ...publicKey.export({ format: "jwk" }), kid: "try" }] }));
  const door = ["--auth-issuer", "https://idp.example", "--auth-audience", "care-invitation", "--auth-jwks", keys];
  const token = tokenOf(`${STAFF} patient.protected settings.write`);
  service = await Service.start({ origin: site.origin, arguments: door, token });
  site.service = service.url;
  await service.invite();
  const protection = Protection.CONFIDENTIALITY_MARKED;
  await service.invite({ patient: { personalId: PATIENTS[2], personalIdType: 1, protection } });
});
afterAll(async () => {
  await browser.close();
  site.close();
  await service.end();
  await rm(folder, { recursive: true });
});

function tokenOf(scope: string, seconds = 300): string {
  const now = Math.floor(Date.now() / 1000);
  const head = { alg: "EdDSA", typ: "at+jwt", kid: "try" };
  const claims = {
    iss: "https://idp.example",
    aud: "care-invitation",
    sub: "nurse",
    exp: now + seconds,
    scope,
    care_units: "*",
  };
  const signed = [head, claims].map((it) => Buffer.from(JSON.stringify(it)).toString("base64url")).join(".");
  return `${signed}.${sign(null, Buffer.from(signed), privateKey).toString("base64url")}`;
}

test("a token opens the board, protected identity is masked, and nothing is left behind", async () => {
  const { page, said } = await openPage(browser, site, `#/${HSA_ID}/all-invitations`);
  const urls: string[] = [];
  page.on("request", (request) => urls.push(request.url()));
  await page.getByRole("heading", { name: "Logga in" }).waitFor();
  expect(await page.locator(":focus").getAttribute("id")).toBe("token");
  await page.getByLabel("Åtkomstnyckel").fill("nonsense");
  await page.keyboard.press("Enter");
  await page.getByText("Servern godtar inte åtkomstnyckeln.").waitFor();
  const token = tokenOf(STAFF);
  await page.getByLabel("Åtkomstnyckel").fill(token);
  await page.keyboard.press("Enter");
  await page.getByRole("link", { name: "19800301-2385" }).waitFor();
  const masked = page.getByRole("link", { name: /^Numret är dolt/ });
  expect(await masked.textContent()).toContain("Skyddade personuppgifter");
  await masked.click();
  await page.getByText("Servern visar inte numret").waitFor();
  expect(await page.content()).not.toContain(PATIENTS[2]);
  await page.getByRole("link", { name: "Till listan" }).click();
  await page.getByRole("link", { name: "19800301-2385" }).click();
  await page.getByRole("heading", { level: 1, name: "ÖNH läkare nybesök" }).waitFor();
  await page.getByRole("button", { name: "English" }).click();
  const kept = await page.evaluate(async () => ({
    local: { ...localStorage },
    session: { ...sessionStorage },
    cookies: document.cookie,
    databases: await indexedDB.databases(),
    caches: await caches.keys(),
    title: document.title,
  }));
  expect(kept).toMatchObject({ local: { language: "en" }, session: { token }, cookies: "", databases: [], caches: [] });
  expect(Object.keys(kept.session)).toEqual(["token"]);
  for (const personal of [token, "198003012385", "19800301"]) {
    expect([...urls, page.url(), kept.title, JSON.stringify(kept.local)].filter((it) => it.includes(personal))).toEqual(
      [],
    );
    expect(said.filter((it) => it.includes(personal))).toEqual([]);
  }
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByRole("heading", { name: "Sign in" }).waitFor();
  expect(await page.evaluate(() => sessionStorage.length)).toBe(0);
  expect(await page.content()).not.toContain("19800301");
  await page.context().close();
});

test("a token that does not give what is needed says which right is missing", async () => {
  const { page } = await openPage(browser, site, "");
  await page.getByLabel("Åtkomstnyckel").fill(tokenOf("booking.read"));
  await page.keyboard.press("Enter");
  await page.goto(`${site.origin}/#/${HSA_ID}/declined`);
  await page.getByText("Du saknar behörigheten worklist.read.").waitFor();
  expect(await page.locator(".badge").textContent()).toBe("Stopp");
  await page.context().close();
});

test("a page that is not of the named origin is not let in", async () => {
  const other = await Site.open();
  other.service = service.url;
  const { page } = await openPage(browser, other, `#/${HSA_ID}/declined`);
  await page.getByText("Ingen kontakt med servern.").waitFor();
  await page.context().close();
  other.close();
});

test.each(["sv-SE", "en-GB"])("axe finds nothing at the door, %s", async (locale) => {
  const { page } = await openPage(browser, site, "", { locale, bypassCSP: true });
  await page.locator("#token").waitFor();
  expect(await violations(page)).toEqual([]);
  await page.context().close();
});
