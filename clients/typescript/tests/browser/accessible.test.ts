/** Each view in both languages, read by axe; and narrow, magnified, without motion. */

import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ContactOutcome, Protection } from "../../careinvitation/v1/booking_request_pb.js";
import { launch, openPage, Site, violations } from "../page.js";
import { HSA_ID, PATIENTS, Service } from "../service.js";

let browser: Browser;
let site: Site;
let service: Service;
let name: string;
let id: string;

beforeAll(async () => {
  browser = await launch();
  site = await Site.open();
  service = await Service.start({ origin: site.origin });
  site.service = service.url;
  const decisionDate = "2025-12-08";
  const invited = await service.invite({
    patient: { personalId: PATIENTS[1], personalIdType: 1, interpreterLanguage: "ar" },
    origin: { case: "referral", value: { referralId: "R-risk", decisionDate } },
    priority: 2,
  });
  name = invited.name;
  id = name.split("/").at(-1) ?? "";
  await service.deliver();
  const requestId = crypto.randomUUID();
  await service.requests.recordPatientContact({ name, requestId, outcome: ContactOutcome.CALL_BACK });
  const protection = Protection.PROTECTED_REGISTRATION;
  await service.invite({ patient: { personalId: PATIENTS[2], personalIdType: 1, protection } });
});
afterAll(async () => {
  await browser.close();
  site.close();
  await service.end();
});

/** Views, and what each shows once it is there. */
const VIEWS: readonly (readonly [string, () => string, string, ((page: Page) => Promise<void>)?])[] = [
  ["the choice of a care unit", () => "", ".units a"],
  ["a list", () => `#/${HSA_ID}/all-invitations`, "tbody tr:nth-child(2)"],
  ["an empty list", () => `#/${HSA_ID}/declined`, ".empty"],
  ["a request", () => `#/${HSA_ID}/requests/${id}`, ".timeline"],
  ["an action with a fault", () => `#/${HSA_ID}/requests/${id}`, ".timeline", openAction],
  ["a conflict", () => `#/${HSA_ID}/requests/${id}`, ".timeline", meetConflict],
  ["an interruption", () => `#/${HSA_ID}/all-invitations`, "tbody tr", interrupt],
];

async function openAction(page: Page): Promise<void> {
  await page.locator(".actions .buttons button").nth(2).click();
  await page.locator("dialog button[type=submit]").click();
  await page.locator("dialog [aria-invalid=true]").first().waitFor();
}

async function interrupt(page: Page): Promise<void> {
  await page.context().setOffline(true);
  await page.locator(".interruption").waitFor();
}

async function meetConflict(page: Page): Promise<void> {
  await page.locator(".actions .buttons button").first().click();
  await page.locator("dialog textarea").first().fill("Ring efter tre");
  await page.locator("dialog select").last().selectOption("2");
  await service.requests.recordPatientContact({ name, requestId: crypto.randomUUID(), outcome: ContactOutcome.OTHER });
  await page.locator("dialog button[type=submit]").click();
  await page.locator("#action-title:focus").waitFor();
}

for (const locale of ["sv-SE", "en-GB"]) {
  for (const [view, hash, ready, prepare] of VIEWS) {
    test(`axe finds nothing in ${view}, ${locale}`, async () => {
      const { page } = await openPage(browser, site, hash(), { locale, bypassCSP: true });
      await page.locator(ready).first().waitFor();
      await prepare?.(page);
      expect(await violations(page)).toEqual([]);
      await page.context().close();
    });
  }
}

test.each([
  ["320 pixels wide", { viewport: { width: 320, height: 640 } }],
  ["magnified twice", { viewport: { width: 640, height: 450 }, deviceScaleFactor: 2 }],
])("%s, nothing is cut off and nothing scrolls sideways", async (_, options) => {
  for (const [, hash, ready, prepare] of VIEWS) {
    const { page } = await openPage(browser, site, hash(), { ...options, bypassCSP: true });
    await page.locator(ready).first().waitFor();
    await prepare?.(page);
    const [content, window] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    expect(content, hash()).toBeLessThanOrEqual(window ?? 0);
    expect(await violations(page)).toEqual([]);
    await page.context().close();
  }
});

test("a table stays a table when it is narrow", async () => {
  const { page } = await openPage(browser, site, `#/${HSA_ID}/all-invitations`, {
    viewport: { width: 320, height: 640 },
  });
  await page.locator("tbody tr").first().waitFor();
  expect(await page.getByRole("table").ariaSnapshot()).toMatch(/rowheader "19121212-1212/);
  await page.context().close();
});

test("nothing moves for those who ask for that", async () => {
  for (const [reducedMotion, animation] of [
    ["reduce", "none"],
    ["no-preference", "beat"],
  ] as const) {
    const { page } = await openPage(browser, site, `#/${HSA_ID}/declined`, { reducedMotion });
    await page.locator(".badge.live .dot").waitFor();
    expect(await page.locator(".dot").evaluate((it) => getComputedStyle(it).animationName)).toBe(animation);
    await page.context().close();
  }
});
