/** The dialog of an action. */

import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { BookingRequest } from "../../../careinvitation/v1/booking_request_pb.js";
import { Action, BookingRequest_State } from "../../../careinvitation/v1/booking_request_pb.js";
import { mayRepeat } from "../../client/repeat.js";
import { initial, missing, type Values } from "../action/field.js";
import { FORMS } from "../action/forms.js";
import { Intention } from "../action/intention.js";
import { explain } from "../model/explain.js";
import type { Opened } from "../opened.js";
import { texts } from "../text/language.js";
import { nameOf } from "../text/names.js";
import { Conflict } from "./conflict.js";
import { FormField } from "./form-field.js";

type Status = "editing" | "sending" | "repeating" | "unknown";

interface Props {
  opened: Opened;
  intention: Intention;
  onClose: (isDone: boolean) => void;
}

export function ActionDialog({ opened, intention: begun, onClose }: Props) {
  const [intention, setIntention] = useState(begun);
  const [conflicting, setConflicting] = useState<BookingRequest | undefined>(undefined);
  const [values, setValues] = useState<Values>(() => initial(FORMS[begun.action].fields(begun.seen, {}, texts.peek())));
  const dialog = useRef<HTMLDialogElement>(null);
  useLayoutEffect(() => {
    dialog.current?.showModal();
    const shown = dialog.current;
    // Closed before it is taken out, so that the focus goes back to where it came from.
    return () => shown?.close();
  }, []);
  return (
    <dialog
      ref={dialog}
      aria-labelledby="action-title"
      onCancel={(event) => {
        event.preventDefault();
        onClose(false);
      }}
    >
      {conflicting ? (
        <Conflict
          seen={intention.seen}
          now={conflicting}
          latest={opened.read.value?.history.at(-1)}
          action={intention.action}
          onLook={() => onClose(false)}
          onGoOn={() => {
            setIntention(new Intention(intention.action, conflicting));
            setConflicting(undefined);
          }}
        />
      ) : (
        <ActionForm
          opened={opened}
          intention={intention}
          values={values}
          onValues={setValues}
          onConflict={setConflicting}
          onClose={onClose}
        />
      )}
    </dialog>
  );
}

interface FormProps extends Props {
  values: Values;
  onValues: (values: Values) => void;
  onConflict: (now: BookingRequest) => void;
}

function ActionForm({ opened, intention, values, onValues, onConflict, onClose }: FormProps) {
  const { explain: explained, form, names, bookedBefore } = texts.value;
  const [status, setStatus] = useState<Status>("editing");
  const [faults, setFaults] = useState<Readonly<Record<string, string>>>({});
  const [told, setTold] = useState("");
  const [end] = useState(() => new AbortController());
  const message = useRef<HTMLParagraphElement>(null);
  const element = useRef<HTMLFormElement>(null);
  useEffect(() => () => end.abort(), [end]);
  const { action, seen } = intention;
  const fields = FORMS[action].fields(seen, values, texts.value);
  const isBusy = status === "sending" || status === "repeating";
  // What may have been done already can only be sent again as it was.
  const isLocked = isBusy || status === "unknown";

  useEffect(() => {
    if (Object.keys(faults).length > 0) element.current?.querySelector<HTMLElement>("[aria-invalid=true]")?.focus();
    else if (told) message.current?.focus();
  }, [faults, told]);

  return (
    <form
      ref={element}
      noValidate
      onSubmit={(event) => {
        event.preventDefault();
        void submit();
      }}
    >
      <h2 id="action-title">{nameOf(names.action, action)}</h2>
      <p>{explained[action]}</p>
      {action === Action.CHANGE_TO_INVITATION && seen.state === BookingRequest_State.BOOKED && (
        <p class="note">{bookedBefore}</p>
      )}
      {told && (
        <p class="bad" ref={message} tabIndex={-1}>
          {told}
        </p>
      )}
      {fields.map((field) => (
        <FormField
          key={field.path}
          field={field}
          value={values[field.path] ?? field.initial ?? ""}
          fault={faults[field.path]}
          isLocked={isLocked}
          onValue={(value) => onValues({ ...values, [field.path]: value })}
        />
      ))}
      <p class="progress" role="status">
        {status === "sending" && form.sending}
        {status === "repeating" && form.repeating}
      </p>
      <p class="buttons">
        <button type="submit" class="primary" aria-disabled={isBusy}>
          {status === "unknown" ? form.tryAgain : nameOf(names.action, action)}
        </button>
        <button type="button" onClick={() => onClose(false)}>
          {form.cancel}
        </button>
      </p>
    </form>
  );

  async function submit() {
    if (isBusy) return;
    // Fields that have come up since begin with their own values.
    const filled = { ...initial(fields), ...values };
    const empty = missing(fields, filled);
    setTold("");
    setFaults(Object.fromEntries(empty.map((path) => [path, form.required])));
    if (empty.length > 0) return;
    setStatus("sending");
    const { requests } = opened.board.clients;
    const outcome = await intention.send(requests, filled, () => setStatus("repeating"), end.signal);
    if (end.signal.aborted) return;
    setStatus(outcome.is === "unknown" ? "unknown" : "editing");
    switch (outcome.is) {
      case "done":
        await opened.refresh();
        opened.board.announcer.say(form.done(nameOf(names.action, action)));
        return onClose(true);
      case "nothing":
        return setTold(form.nothing);
      case "unknown": {
        const { problem } = outcome;
        opened.board.knock(problem);
        return setTold(mayRepeat(problem) ? form.unknown : `${explain(problem, texts.value)} ${form.unknown}`);
      }
      case "conflict":
        await opened.refresh();
        if (opened.read.value) onConflict(opened.read.value.request);
        return;
      case "refused":
        return refused(outcome.problem);
    }
  }

  function refused(problem: Parameters<typeof explain>[0]) {
    opened.board.knock(problem);
    const paths = new Set(fields.map(({ path }) => path));
    const bad = Object.entries(problem.fields);
    setFaults(
      Object.fromEntries(
        bad.filter(([path]) => paths.has(path)).map(([path, why]) => [path, `${form.invalid}: ${why}`]),
      ),
    );
    const elsewhere = bad.filter(([path]) => !paths.has(path)).map(([path, why]) => `${path}: ${why}`);
    if (bad.length === 0) setTold(explain(problem, texts.value));
    else if (elsewhere.length > 0) setTold(`${form.invalid}: ${elsewhere.join("; ")}`);
  }
}
