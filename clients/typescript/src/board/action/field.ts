/** Fields of the forms of actions. */

import type { Texts } from "../text/sv.js";

/** What somebody has filled in, by the paths of the fields. */
export type Values = Readonly<Record<string, string>>;

export interface Field {
  /** The path by which the service names the field when it is bad. */
  path: string;
  label: string;
  kind: "text" | "area" | "date" | "time" | "number" | "radio" | "select";
  /** Values and their names, of a radio or a select. */
  choices?: readonly (readonly [value: string, name: string])[];
  initial?: string;
  isRequired?: boolean;
  hint?: string;
}

/** Returns the choices of an enum: all that have a name but these. */
export function choicesOf(
  names: Readonly<Record<number, string>>,
  without: readonly number[] = [],
): readonly (readonly [string, string])[] {
  return Object.entries(names).filter(([value]) => !without.includes(Number(value)));
}

/** Returns choices with one before them that says nothing. */
export function orNone(choices: Field["choices"], none: string): NonNullable<Field["choices"]> {
  return [["", none], ...(choices ?? [])];
}

export function commentField(texts: Texts, isRequired = false): Field {
  const label = isRequired ? texts.field.commentNeeded : texts.field.comment;
  return { path: "comment", label, kind: "area", isRequired };
}

/** Returns the paths of required fields that are empty. */
export function missing(fields: readonly Field[], values: Values): string[] {
  return fields.filter(({ path, isRequired }) => isRequired && !values[path]?.trim()).map(({ path }) => path);
}

/** Returns the values with which a form begins. */
export function initial(fields: readonly Field[]): Values {
  return Object.fromEntries(fields.map((field) => [field.path, field.initial ?? ""]));
}
