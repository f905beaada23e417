/** The language of the page: that of the browser, until somebody switches. It is remembered, and nothing else is. */

import { computed, effect, signal } from "@preact/signals";
import { en } from "./en.js";
import { preferred } from "./preferred.js";
import { sv, type Texts } from "./sv.js";

const KEY = "language";

/** The texts in the language of the page. */
export const texts = signal<Texts>(preferred(localStorage.getItem(KEY), navigator.languages));

/** The language that the page can be switched to. */
export const other = computed(() => (texts.value === sv ? en : sv));

export function switchLanguage(): void {
  texts.value = other.value;
  localStorage.setItem(KEY, texts.value.tag);
}

effect(() => {
  document.documentElement.lang = texts.value.tag;
});
