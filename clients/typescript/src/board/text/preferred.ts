/** The choice of a language. */

import { en } from "./en.js";
import { sv, type Texts } from "./sv.js";

const LANGUAGES: readonly Texts[] = [sv, en];

/** Returns the first language of ours that is asked for; Swedish when none is. */
export function preferred(remembered: string | null, asked: readonly string[]): Texts {
  const wanted = [remembered ?? "", ...asked].map((it) => it.toLowerCase().split("-")[0]);
  return wanted.map((it) => LANGUAGES.find(({ tag }) => tag === it)).find((it) => it !== undefined) ?? sv;
}
