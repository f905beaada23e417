/** The caller's token, in this tab alone. A team that has single sign-on gets it there in place of this file. */

import { signal } from "@preact/signals";

const KEY = "token";

/** The token that calls bring; empty without one. */
export const token = signal(sessionStorage.getItem(KEY) ?? "");

export function enter(given: string): void {
  token.value = given.trim().replace(/^Bearer\s+/i, "");
  sessionStorage.setItem(KEY, token.value);
}

export function leave(): void {
  token.value = "";
  sessionStorage.removeItem(KEY);
}
