/** A request's timeline: what is to come, and what has happened. */

import { timestampDate } from "@bufbuild/protobuf/wkt";
import type { ComponentChildren } from "preact";
import {
  Notification_State as Message,
  type Notification,
  NotificationKind,
} from "../../../careinvitation/v1/care_invitation_pb.js";
import type { HistoryEntry } from "../../../careinvitation/v1/history_pb.js";
import { day, moment, period } from "../model/format.js";
import { type Ahead, ahead, type Past, past } from "../model/timeline.js";
import type { Read } from "../opened.js";
import { texts } from "../text/language.js";
import { nameOf } from "../text/names.js";

export function Timeline({ read: { request, history } }: { read: Read }) {
  const { timeline } = texts.value;
  const coming = ahead(request);
  const isHeld = Boolean(request.careInvitation?.holdReason);
  return (
    <section class="timeline">
      <h2>{timeline.title}</h2>
      <h3>{timeline.ahead}</h3>
      {coming.length === 0 && <p>{timeline.nothingAhead}</p>}
      <ol class="ahead">
        {coming.map((it, at) => (
          <Coming key={at} it={it} isHeld={isHeld} />
        ))}
      </ol>
      <h3>{timeline.past}</h3>
      <ol>
        {past(request, history).map((it, at) => (
          <Happened key={at} it={it} />
        ))}
      </ol>
    </section>
  );
}

function Coming({ it, isHeld }: { it: Ahead; isHeld: boolean }) {
  const { timeline, locale } = texts.value;
  if (it.what === "guarantee") {
    return <Entry mark="date" when={<time dateTime={it.day}>{day(it.day, locale)}</time>} title={timeline.guarantee} />;
  }
  const when = <When time={it.time} />;
  if (it.what !== "message") {
    const titles = { visit: timeline.visit, noResponse: timeline.noResponse, expires: timeline.expires };
    return <Entry mark="date" when={when} title={titles[it.what]} />;
  }
  const isWaiting = it.message.state === Message.SCHEDULED && isHeld;
  return (
    <Entry mark={it.message.state === Message.SKIPPED ? "off" : "message"} when={when} title={titleOf(it.message)}>
      <p class="minor">{[stateOf(it.message), isWaiting && timeline.held].filter(Boolean).join(", ")}</p>
    </Entry>
  );
}

function Happened({ it: { time, entry, message } }: { it: Past }) {
  const { names } = texts.value;
  const when = <When time={time} />;
  if (!entry) {
    return (
      <Entry mark="message" when={when} title={message && titleOf(message)}>
        <p class="minor">{message && stateOf(message)}</p>
      </Entry>
    );
  }
  const isMessage = entry.notification !== "";
  return (
    <Entry mark={isMessage ? "message" : "event"} when={when} title={nameOf(names.event, entry.event)}>
      {message && <p>{titleOf(message)}</p>}
      <Details entry={entry} />
    </Entry>
  );
}

/** What an entry of the history says beside its name: who, why, and what it set. */
function Details({ entry }: { entry: HistoryEntry }) {
  const { names, timeline, paths, locale } = texts.value;
  const reasons = [
    nameOf(names.changeReason, entry.changeReason),
    nameOf(names.cancelReason, entry.cancelReason),
    nameOf(names.outcome, entry.contactOutcome),
    entry.cause ? timeline.because(nameOf(names.cause, entry.cause)) : "",
    moment(entry.booking?.startTime, locale),
    period(entry.constraints?.requestedPeriod, locale),
  ].filter(Boolean);
  const changed = entry.changedFields.map((path) => paths[path] ?? path);
  return (
    <>
      {reasons.length > 0 && <p>{reasons.join(". ")}</p>}
      {entry.comment && <p class="quote">{entry.comment}</p>}
      {changed.length > 0 && (
        <p class="minor">
          {timeline.changed}: {changed.join(", ")}
        </p>
      )}
      {entry.actor && <p class="minor">{timeline.by(entry.actor)}</p>}
    </>
  );
}

function Entry(shown: {
  mark: string;
  when: ComponentChildren;
  title: string | undefined;
  children?: ComponentChildren;
}) {
  return (
    <li class={shown.mark}>
      <p class="when">{shown.when}</p>
      <p class="what">{shown.title}</p>
      {shown.children}
    </li>
  );
}

function When({ time }: { time: Past["time"] }) {
  if (!time) return null;
  return <time dateTime={timestampDate(time).toISOString()}>{moment(time, texts.value.locale)}</time>;
}

function titleOf({ kind, sequence, channel }: Notification): string {
  const { names } = texts.value;
  const number = kind === NotificationKind.REMINDER && sequence ? ` ${sequence}` : "";
  return [`${nameOf(names.kind, kind)}${number}`, nameOf(names.channel, channel)].filter(Boolean).join(", ");
}

function stateOf({ state, cause, causeDetail }: Notification): string {
  const { names } = texts.value;
  const why = [nameOf(names.cause, cause), causeDetail].filter(Boolean).join(" – ");
  return [nameOf(names.messageState, state), why].filter(Boolean).join(": ");
}
