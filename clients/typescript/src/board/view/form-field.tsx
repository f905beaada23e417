/** One field of a form, with its name, its hint and its fault. */

import type { Field } from "../action/field.js";
import { texts } from "../text/language.js";

interface Props {
  field: Field;
  value: string;
  fault: string | undefined;
  isLocked: boolean;
  onValue: (value: string) => void;
}

export function FormField(props: Props) {
  return props.field.kind === "radio" ? <Radios {...props} /> : <Single {...props} />;
}

function Single({ field, value, fault, isLocked, onValue }: Props) {
  const id = idOf(field);
  const shared = {
    id,
    value,
    "aria-required": field.isRequired ?? false,
    "aria-invalid": fault !== undefined,
    "aria-describedby": describedBy(field, fault),
  };
  const onInput = ({ currentTarget }: { currentTarget: { value: string } }) => onValue(currentTarget.value);
  return (
    <div class="field">
      <label for={id}>
        {field.label}
        <Optional field={field} />
      </label>
      {control()}
      <Hints field={field} fault={fault} />
    </div>
  );

  function control() {
    switch (field.kind) {
      case "select":
        return (
          <select {...shared} disabled={isLocked} onChange={onInput}>
            {field.choices?.map(([choice, name]) => (
              <option key={choice} value={choice}>
                {name}
              </option>
            ))}
          </select>
        );
      case "area":
        return <textarea {...shared} rows={3} maxLength={2000} readOnly={isLocked} onInput={onInput} />;
      default:
        // Preact has a type of its own for each kind of input; these differ in nothing that is used here.
        return (
          <input {...shared} type={field.kind as "text"} autocomplete="off" readOnly={isLocked} onInput={onInput} />
        );
    }
  }
}

function Radios({ field, value, fault, isLocked, onValue }: Props) {
  return (
    <fieldset aria-describedby={describedBy(field, fault)}>
      <legend>{field.label}</legend>
      {field.choices?.map(([choice, name], at) => (
        <label key={choice} class="radio">
          <input
            type="radio"
            name={idOf(field)}
            value={choice}
            checked={value === choice}
            disabled={isLocked}
            aria-invalid={fault !== undefined && at === 0}
            onChange={() => onValue(choice)}
          />
          {name}
        </label>
      ))}
      <Hints field={field} fault={fault} />
    </fieldset>
  );
}

function Optional({ field }: { field: Field }) {
  return field.isRequired ? null : <span class="minor"> ({texts.value.field.optional})</span>;
}

function Hints({ field, fault }: { field: Field; fault: string | undefined }) {
  return (
    <>
      {field.hint && (
        <p id={`${idOf(field)}-hint`} class="hint">
          {field.hint}
        </p>
      )}
      {fault && (
        <p id={`${idOf(field)}-fault`} class="bad">
          {fault}
        </p>
      )}
    </>
  );
}

function describedBy(field: Field, fault: string | undefined): string | undefined {
  const ids = [field.hint && `${idOf(field)}-hint`, fault && `${idOf(field)}-fault`].filter(Boolean);
  return ids.join(" ") || undefined;
}

function idOf({ path }: Field): string {
  return path.replaceAll(/[._]/g, "-");
}
