/** A conflict: what has changed since somebody looked, and what they can do about it. */

import { useEffect, useRef } from "preact/hooks";
import type { Action, BookingRequest } from "../../../careinvitation/v1/booking_request_pb.js";
import type { HistoryEntry } from "../../../careinvitation/v1/history_pb.js";
import { differences } from "../model/differences.js";
import { moment } from "../model/format.js";
import { texts } from "../text/language.js";
import { nameOf } from "../text/names.js";

interface Props {
  seen: BookingRequest;
  now: BookingRequest;
  latest: HistoryEntry | undefined;
  action: Action;
  onLook: () => void;
  onGoOn: () => void;
}

export function Conflict({ seen, now, latest, action, onLook, onGoOn }: Props) {
  const { form, names, timeline, locale } = texts.value;
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => heading.current?.focus(), []);
  const found = differences(seen, now, texts.value);
  const isPossible = now.allowedActions.includes(action);
  return (
    <div>
      <h2 id="action-title" ref={heading} tabIndex={-1}>
        {form.conflict}
      </h2>
      <p>{found.length > 0 ? form.conflictWhy : form.conflictNothing}</p>
      <dl class="differences">
        {found.map(({ label, before, now: present }) => (
          <div key={label}>
            <dt>{label}</dt>
            <dd>
              <span class="unseen">{form.before}: </span>
              <del>{before || form.none}</del>
            </dd>
            <dd>
              <span class="unseen">{form.after}: </span>
              <ins>{present || form.none}</ins>
            </dd>
          </div>
        ))}
      </dl>
      {latest && (
        <p class="minor">
          {form.latest}: {nameOf(names.event, latest.event)}, {moment(latest.eventTime, locale)}
          {latest.actor && ` ${timeline.by(latest.actor)}`}
        </p>
      )}
      {!isPossible && <p class="note">{form.goneAction}</p>}
      <p class="buttons">
        <button type="button" class="primary" onClick={onLook}>
          {form.lookAgain}
        </button>
        {isPossible && (
          <button type="button" onClick={onGoOn}>
            {form.goOn}
          </button>
        )}
      </p>
    </div>
  );
}
