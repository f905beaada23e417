/** The board in a browser, against the real service. */

import type { Browser, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import {
  ContactOutcome,
  Protection,
  BookingRequest_State as State,
} from "../../careinvitation/v1/booking_request_pb.js";
import { HoldReason } from "../../careinvitation/v1/care_invitation_pb.js";
import { Acknowledgement_Outcome as Outcome } from "../../careinvitation/v1/notification_service_pb.js";
import { launch, openPage, Site } from "../page.js";
import { HSA_ID, PATIENTS, Service } from "../service.js";

const PERIOD = { requestedPeriod: { startDate: "2026-05-18", endDate: "2026-06-12" } };

let browser: Browser;
let site: Site;
let service: Service;
let page: Page;
let said: string[];

beforeAll(async () => {
  browser = await launch();
  site = await Site.open();
});
afterAll(async () => {
  await browser.close();
  site.close();
});
beforeEach(async () => {
  service = await Service.start({ origin: site.origin });
  site.service = service.url;
});
afterEach(async () => {
  await page.context().close();
  await service.end();
});

async function open(place = "booking-requests"): Promise<void> {
  ({ page, said } = await openPage(browser, site, `#/${HSA_ID}/${place}`));
  page.setDefaultTimeout(10_000);
}

async function openRequest(name: string): Promise<void> {
  await open(`requests/${name.split("/").at(-1)}`);
  await page.getByRole("heading", { level: 1, name: "ÖNH läkare nybesök" }).waitFor();
}

const button = (name: string) => page.getByRole("button", { name, exact: true });
const link = (name: string | RegExp) => page.getByRole("link", { name });
const count = (list: string) => page.getByRole("navigation").getByRole("link", { name: new RegExp(`^${list} \\d`) });
const badge = () => page.locator(".badge");

/** Does what an action's button and form ask for. */
async function act(action: string, fill: (dialog: ReturnType<Page["getByRole"]>) => Promise<void>): Promise<void> {
  await button(action).click();
  const dialog = page.getByRole("dialog", { name: action });
  await fill(dialog);
  await dialog.getByRole("button", { name: action, exact: true }).click();
}

async function done(action: string): Promise<void> {
  await page
    .getByRole("status")
    .filter({ hasText: `Klart: ${action}.` })
    .waitFor();
  expect(await page.getByRole("dialog").count()).toBe(0);
}

test("a request that is created appears, and moves from list to list with the counts", async () => {
  await open();
  await count("Att boka eller bjuda in").filter({ hasText: "0" }).waitFor();
  const { name } = await service.create();
  await link("19800301-2385").waitFor();
  expect(await count("Att boka eller bjuda in").textContent()).toMatch(/1/);
  expect(await page.getByRole("row").nth(1).textContent()).toContain("ÖNH läkare nybesök");
  await service.requests.changeToInvitation({ name, requestId: crypto.randomUUID() });
  await page.getByText("Listan är tom.").waitFor();
  expect(await count("Inbjudna utan svar").textContent()).toMatch(/1/);
  await link(/^Alla vårdinbjudningar/).click();
  await link("19800301-2385").waitFor();
  expect(await badge().textContent()).toBe("Direkt");
  expect(said).toEqual([]);
});

test("a request's page tells what is planned and what has happened, and follows it", async () => {
  const { name } = await service.invite();
  await openRequest(name);
  const timeline = page.locator(".timeline");
  expect(await timeline.locator(".ahead li").allInnerTexts()).toHaveLength(4);
  await service.deliver();
  await timeline.getByText("Meddelande lämnades").waitFor();
  const ahead = await timeline.locator(".ahead li").allInnerTexts();
  expect(ahead[0]).toMatch(/16 mars 2026.*\n+Påminnelse 1, 1177\n+Väntar/);
  expect(ahead.join()).not.toContain("Inbjudan");
  const past = await timeline.locator("ol:not(.ahead) li").allInnerTexts();
  expect(past[0]).toMatch(/2 mars 2026.*\n+Meddelande lämnades\n+Inbjudan, 1177/);
  expect(past[1]).toContain("Begäran registrerades");
});

test("a request is changed, with its reason", async () => {
  const { name } = await service.create();
  await openRequest(name);
  await act("Ändra begäran", async (dialog) => {
    await dialog.getByLabel("Kontaktorsak").fill("Näsa");
    await dialog.getByLabel("Orsak", { exact: true }).selectOption({ label: "Medicinska skäl" });
  });
  await done("Ändra begäran");
  const changed = await service.get(name);
  expect(changed.purpose).toBe("Näsa");
  await page.locator(".timeline").getByText("Ändrat: kontaktorsak").waitFor();
});

test("a patient is invited, and the invitation is revoked", async () => {
  const { name } = await service.create({ constraints: PERIOD });
  await openRequest(name);
  await act("Ändra till vårdinbjudan", async () => undefined);
  await done("Ändra till vårdinbjudan");
  expect((await service.get(name)).state).toBe(State.INVITED);
  await act("Återta inbjudan", (dialog) => dialog.getByLabel(/^Kommentar/).fill("Fel remiss"));
  await done("Återta inbjudan");
  expect((await service.get(name)).state).toBe(State.REQUESTED);
  await page.getByText("Fel remiss").waitFor();
});

test("a booking is recorded, outside the period with a reason, and cancelled", async () => {
  const { name } = await service.invite();
  await openRequest(name);
  await act("Registrera bokning", async (dialog) => {
    await dialog.getByLabel("Bokningens id").fill("B-1");
    await dialog.getByLabel("Datum").fill("2026-07-01");
    await dialog.getByLabel("Starttid").fill("09:30");
    await dialog.getByLabel("Längd i minuter").fill("30");
  });
  const dialog = page.getByRole("dialog");
  await dialog.locator(".bad").filter({ hasText: "Tiden ligger utanför" }).waitFor();
  await dialog.getByLabel(/^Varför tiden får avvika/).fill("Patienten är bortrest i juni");
  await dialog.getByRole("button", { name: "Registrera bokning" }).click();
  await done("Registrera bokning");
  await page.locator("dd").filter({ hasText: "1 juli 2026 09:30, bokad av personalen" }).waitFor();
  await page.getByText("Står inte på någon lista.").waitFor();
  await act("Registrera avbokning", async () => {
    await page.getByLabel("Patienten avbokade").check();
    await page.getByLabel("Vänta på ny bokning").check();
  });
  await done("Registrera avbokning");
  expect((await service.get(name)).state).toBe(State.REQUESTED);
});

test("a contact is recorded, and its hold released", async () => {
  const { name } = await service.invite();
  await openRequest(name);
  await act("Registrera kontakt", async (dialog) => {
    await dialog.getByLabel("Ska boka en tid").check();
    await dialog.getByLabel(/^Vänta till och med/).fill("2026-04-01");
    await dialog.getByLabel(/^Hur/).selectOption({ label: "Telefon" });
  });
  await done("Registrera kontakt");
  await page.locator(".title").getByText("Patienten ska boka till och med 1 apr. 2026").waitFor();
  await act("Häv stoppet", (dialog) => dialog.getByLabel("Varför det får skickas").fill("Ringde igen"));
  await done("Häv stoppet");
  const released = await service.get(name);
  expect(released.careInvitation?.holdReason).toBe(HoldReason.UNSPECIFIED);
  expect(released.lastContact?.outcome).toBe(ContactOutcome.WILL_BOOK);
});

test("a request is closed with a reason, and nothing more is offered", async () => {
  const { name } = await service.invite();
  await openRequest(name);
  await act("Avsluta begäran", async (dialog) => {
    await dialog.getByRole("button", { name: "Avsluta begäran" }).click();
    await dialog.getByText("Fyll i fältet.").waitFor();
    expect(await dialog.getByLabel("Orsak").evaluate((it) => it === document.activeElement)).toBe(true);
    await dialog.getByLabel("Orsak").selectOption({ label: "Patienten har flyttat" });
  });
  await done("Avsluta begäran");
  await page.getByText("Inga åtgärder är möjliga nu.").waitFor();
  expect((await service.get(name)).state).toBe(State.CANCELLED);
  expect(await page.getByRole("heading", { name: "Åtgärder" }).evaluate((it) => it === document.activeElement)).toBe(
    true,
  );
});

test("a bad value is told at its field, which gets the focus", async () => {
  const { name } = await service.create();
  await openRequest(name);
  await act("Ändra begäran", async (dialog) => {
    await dialog.getByLabel("Sista dag").fill("2026-03-01");
    await dialog.getByLabel("Orsak", { exact: true }).selectOption({ label: "Enheten behöver det" });
  });
  const bad = page.locator("[aria-invalid=true]");
  await bad.waitFor();
  const described = await bad.getAttribute("aria-describedby");
  expect(await page.locator(`#${described}`).textContent()).toContain("Servern godtar inte värdet");
  expect(await bad.evaluate((it) => it === document.activeElement)).toBe(true);
});

test("a conflict shows what has changed, and lets one go on or look", async () => {
  const { name } = await service.invite();
  await openRequest(name);
  // The page learns of the change only through the conflict.
  await page.route("**/WatchWorklist", (route) => route.abort());
  await button("Registrera kontakt").click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Vill bli uppringd").check();
  await dialog.getByLabel(/^Kommentar/).fill("Efter klockan tre");
  const constraints = { requestedPeriod: { startDate: "2026-03-16", endDate: "2026-06-30" } };
  const write = () => ({ name, requestId: crypto.randomUUID() });
  const change = {
    bookingRequest: { name, constraints },
    updateMask: { paths: ["constraints.requested_period"] },
    reason: 3,
  };
  await service.requests.changeBookingRequest({ ...change, requestId: crypto.randomUUID() });
  await dialog.getByRole("button", { name: "Registrera kontakt" }).click();
  await dialog.getByRole("heading", { name: "Någon annan hann före" }).waitFor();
  expect(await dialog.locator(".differences").textContent()).toMatch(
    /Period\s*förut: 16 mars.12 juni 2026\s*nu: 16 mars.30 juni 2026/,
  );
  expect(await dialog.getByText("Begäran ändrades").count()).toBe(1);
  await dialog.getByRole("button", { name: "Fortsätt med det jag har fyllt i" }).click();
  expect(await dialog.getByLabel(/^Kommentar/).inputValue()).toBe("Efter klockan tre");
  await service.requests.recordPatientContact({ ...write(), outcome: ContactOutcome.DECLINED });
  await dialog.getByRole("button", { name: "Registrera kontakt" }).click();
  await dialog.getByText("Åtgärden är inte möjlig längre.").waitFor();
  expect(await dialog.locator(".differences").textContent()).toMatch(/Läge\s*förut: Inbjuden\s*nu: Tackat nej/);
  await dialog.getByRole("button", { name: "Titta på begäran" }).click();
  await page.locator(".title").getByText("Tackat nej").waitFor();
});

test("an answer that is lost is asked for again with the same request id, and the action is done once", async () => {
  const { name } = await service.invite();
  await openRequest(name);
  const bodies: (string | null)[] = [];
  await page.route("**/RecordPatientContact", async (route) => {
    bodies.push(route.request().postDataBuffer()?.toString("base64") ?? null);
    if (bodies.length > 1) return route.continue();
    await route.fetch();
    return route.abort("connectionreset");
  });
  await act("Registrera kontakt", (dialog) => dialog.getByLabel("Vill bli uppringd").check());
  await done("Registrera kontakt");
  expect(bodies).toHaveLength(2);
  expect(bodies[1]).toBe(bodies[0]);
  const { entries } = await service.requests.listHistory({ name });
  expect(entries.filter(({ contactOutcome }) => contactOutcome === ContactOutcome.CALL_BACK)).toHaveLength(1);
});

test("what may have been done can only be sent again as it was", async () => {
  const { name } = await service.invite();
  await openRequest(name);
  await page.clock.install();
  await page.route("**/RecordPatientContact", (route) => route.abort("connectionreset"));
  await act("Registrera kontakt", (dialog) => dialog.getByLabel("Vill bli uppringd").check());
  const dialog = page.getByRole("dialog");
  await dialog.getByText("Samma åtgärd försöks igen").waitFor();
  for (let times = 0; times < 5; times += 1) {
    await page.clock.runFor(10_000);
    await page.waitForTimeout(50);
  }
  await dialog.getByText("den görs bara en gång").waitFor();
  expect(await dialog.getByLabel("Vill bli uppringd").isDisabled()).toBe(true);
  await page.unroute("**/RecordPatientContact");
  await dialog.getByRole("button", { name: "Försök igen" }).click();
  await done("Registrera kontakt");
});

test("what may have been done stays as it was when the right to do it is gone", async () => {
  const { name } = await service.invite();
  await openRequest(name);
  let calls = 0;
  await page.route("**/RecordPatientContact", async (route) => {
    calls += 1;
    if (calls > 1) {
      const headers = { "access-control-allow-origin": site.origin, "access-control-expose-headers": "grpc-status" };
      return route.fulfill({
        headers: { ...headers, "content-type": "application/grpc-web+proto", "grpc-status": "7" },
      });
    }
    await route.fetch();
    return route.abort("connectionreset");
  });
  await act("Registrera kontakt", (dialog) => dialog.getByLabel("Vill bli uppringd").check());
  const dialog = page.getByRole("dialog");
  await dialog.getByText("den görs bara en gång").waitFor();
  expect(calls).toBe(2);
  expect(await dialog.getByLabel("Vill bli uppringd").isDisabled()).toBe(true);
  await page.unroute("**/RecordPatientContact");
  await dialog.getByRole("button", { name: "Försök igen" }).click();
  await done("Registrera kontakt");
  const { entries } = await service.requests.listHistory({ name });
  expect(entries.filter(({ contactOutcome }) => contactOutcome === ContactOutcome.CALL_BACK)).toHaveLength(1);
});

test("a server that goes away is told at once, and the board comes back by itself", async () => {
  await service.create();
  await open();
  await link("19800301-2385").waitFor();
  await service.kill();
  await page.locator(".interruption").filter({ hasText: "Ingen kontakt med servern. Listorna är från" }).waitFor();
  expect(await badge().textContent()).not.toBe("Direkt");
  expect(await link("19800301-2385").count(), "what was known stays").toBe(1);
  expect(await page.locator(".list.stale").count()).toBe(1);
  await page.getByRole("status").filter({ hasText: "Ingen kontakt" }).waitFor();
  await service.run();
  await service.create({
    patient: { personalId: PATIENTS[1], personalIdType: 1 },
    origin: { case: "referral", value: { referralId: "R-new" } },
  });
  await badge().filter({ hasText: "Direkt" }).waitFor({ timeout: 20_000 });
  await link("19121212-1212").waitFor();
  expect(await page.locator(".stale").count()).toBe(0);
  await page.getByRole("status").filter({ hasText: "Kontakten är tillbaka." }).waitFor();
});

test("a stream that has gone silent does not look live", async () => {
  await open();
  await badge().filter({ hasText: "Direkt" }).waitFor();
  await page.clock.install();
  await page.reload();
  await badge().filter({ hasText: "Direkt" }).waitFor();
  await page.clock.fastForward(50_000);
  await badge().filter({ hasText: "Tyst" }).waitFor();
  await page.locator(".interruption").filter({ hasText: "Servern har inte hörts av sedan" }).waitFor();
});

test("the keyboard alone does it all", async () => {
  await service.create();
  await open();
  await link("19800301-2385").waitFor();
  await page.keyboard.press("Tab");
  expect(await page.locator(":focus").textContent()).toBe("Hoppa till innehållet");
  await page.keyboard.press("Enter");
  expect(await page.locator(":focus").getAttribute("id")).toBe("main");
  await tabTo("19800301-2385");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { level: 1, name: "ÖNH läkare nybesök" }).waitFor();
  await tabTo("Avsluta begäran");
  await page.keyboard.press("Enter");
  await tabTo("Orsak");
  await page.keyboard.press("Escape");
  expect(await page.getByRole("dialog").count()).toBe(0);
  expect(await page.locator(":focus").textContent(), "back on the button").toBe("Avsluta begäran");
  await page.keyboard.press("Space");
  await tabTo("Orsak");
  // A select is set by typing.
  await page.keyboard.type("Patienten har f");
  await page.keyboard.press("Tab");
  await page.keyboard.type("Till Malmö");
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await done("Avsluta begäran");
  await page.keyboard.press("Shift+Tab");
  expect(await page.locator(":focus").textContent()).toBe("Läs igen");
});

/** Goes on with Tab until the focus is on an element of this name; not at all when it is there already. */
async function tabTo(name: string): Promise<void> {
  for (let presses = 0; presses < 40; presses += 1) {
    if ((await page.evaluate(nameOfFocus)).startsWith(name)) return;
    await page.keyboard.press("Tab");
  }
  throw new Error(`the focus does not come to ${name}`);
}

function nameOfFocus(): string {
  const element = document.activeElement as HTMLInputElement | null;
  const named = element?.labels?.[0] ?? element;
  return named?.textContent?.trim() ?? "";
}

test("the focus stays on its row while the list changes, also when the row leaves it", async () => {
  const { name } = await service.create();
  await open();
  await link("19800301-2385").focus();
  const earlier = { requestedPeriod: { startDate: "2026-03-03", endDate: "2026-06-12" } };
  await service.create({ patient: { personalId: PATIENTS[1], personalIdType: 1 }, constraints: earlier });
  await link("19121212-1212").waitFor();
  expect(await page.getByRole("row").nth(1).textContent(), "another row has come before it").toContain("19121212");
  expect(await page.locator(":focus").textContent()).toBe("19800301-2385");
  await service.requests.cancelBookingRequest({ name, requestId: crypto.randomUUID(), reason: 2 });
  await page.getByText("Inte på listan längre").waitFor();
  expect(await page.locator(":focus").textContent()).toBe("19800301-2385");
  await page.keyboard.press("Shift+Tab");
  expect(await page.locator(":focus").textContent()).toBe("19121212-1212");
  await page.getByText("Inte på listan längre").waitFor({ state: "detached" });
});

test("the focus goes to the heading of a page, and back to the row", async () => {
  await service.create();
  await open();
  await link("19800301-2385").click();
  const heading = page.getByRole("heading", { level: 1, name: "ÖNH läkare nybesök" });
  await heading.waitFor();
  await expect.poll(() => heading.evaluate((it) => it === document.activeElement)).toBe(true);
  await link("Till listan").click();
  await expect.poll(() => page.locator(":focus").textContent()).toBe("19800301-2385");
});

test("the live region says little: a list that changes often is spoken of once", async () => {
  await open();
  await badge().filter({ hasText: "Direkt" }).waitFor();
  await page.evaluate(() => {
    const region = document.querySelector("[role=status]");
    const heard: string[] = [];
    Object.assign(globalThis, { heard });
    if (region)
      new MutationObserver(() => heard.push(region.textContent)).observe(region, {
        childList: true,
        subtree: true,
        characterData: true,
      });
  });
  for (let times = 0; times < 5; times += 1) await service.create();
  await count("Att boka eller bjuda in").filter({ hasText: "5" }).waitFor();
  await page.waitForTimeout(500);
  const heard = await page.evaluate(() => (globalThis as unknown as { heard: string[] }).heard);
  expect(heard.length).toBeLessThanOrEqual(1);
});

test("the language is the browser's, can be switched, and is remembered", async () => {
  ({ page, said } = await openPage(browser, site, `#/${HSA_ID}/declined`, { locale: "en-US" }));
  await page.getByRole("heading", { level: 1, name: "Declined" }).waitFor();
  expect(await page.locator("html").getAttribute("lang")).toBe("en");
  await button("Svenska").click();
  await page.getByRole("heading", { level: 1, name: "Tackat nej" }).waitFor();
  await page.reload();
  await page.getByRole("heading", { level: 1, name: "Tackat nej" }).waitFor();
  expect(await page.title()).toBe("Tackat nej – Mitt arbetsflöde");
});

test("a care unit is chosen from those with requests, or by its HSA-id", async () => {
  await service.create();
  ({ page, said } = await openPage(browser, site, ""));
  await link(HSA_ID).click();
  await link("19800301-2385").waitFor();
  await link("Byt vårdenhet").click();
  await page.getByLabel("HSA-id").fill("nonsense");
  await button("Öppna").click();
  await page.getByText("Ett HSA-id ser ut som").waitFor();
  await page.getByLabel("HSA-id").fill("se2321000131-p000000000002");
  await button("Öppna").click();
  await page.getByText("Listan är tom.").waitFor();
});

test("what is parked or protected waits in manual handling", async () => {
  await service.invite({ patient: { personalId: PATIENTS[1], personalIdType: 1, inboxReach: 2 } });
  await service.deliver(Outcome.PARK);
  await service.invite({
    patient: { personalId: PATIENTS[2], personalIdType: 1, protection: Protection.CONFIDENTIALITY_MARKED },
  });
  await open("manual-handling");
  await page.getByText("Meddelandet gick inte att lämna").waitFor();
  expect(await page.locator(".tag.protected").count()).toBe(1);
});
