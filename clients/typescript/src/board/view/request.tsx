/** A request's page. */

import { useEffect, useRef, useState } from "preact/hooks";
import { type BookingRequest, Priority } from "../../../careinvitation/v1/booking_request_pb.js";
import { Worklist } from "../../../careinvitation/v1/worklist_service_pb.js";
import { hasForm } from "../action/forms.js";
import { Intention } from "../action/intention.js";
import type { Board } from "../board.js";
import { explain } from "../model/explain.js";
import { clock } from "../model/format.js";
import { hashOf, type Route, requestName } from "../model/route.js";
import { LISTS, type List } from "../model/rows.js";
import { Opened, type Read } from "../opened.js";
import { texts } from "../text/language.js";
import { nameOf } from "../text/names.js";
import { ActionDialog } from "./action.js";
import { Facts } from "./facts.js";
import { PatientNumber } from "./patient.js";
import { State } from "./state.js";
import { Timeline } from "./timeline.js";

type Place = Extract<Route, { at: "request" }>;

export function RequestPage({ board, route }: { board: Board; route: Place }) {
  const { request: said, title } = texts.value;
  const name = requestName(route);
  const [opened, setOpened] = useState<Opened | undefined>(undefined);
  useEffect(() => {
    const made = new Opened(board, name);
    setOpened(made);
    return () => made.close();
  }, [board, name]);
  const read = opened?.read.value;
  const visit = read && (read.request.visitType?.displayName || read.request.visitType?.code);
  useEffect(() => {
    // The visit, and nothing of the patient: titles are kept by the browser.
    document.title = `${visit ?? said.loading} – ${title}`;
  }, [visit, said.loading, title]);
  return (
    <article class={board.isLive.value ? "request" : "request stale"}>
      <p>
        <a class="back" href={hashOf({ at: "list", careUnit: route.careUnit, list: listOf(board, name) })}>
          {said.back}
        </a>
      </p>
      {opened?.problem.value && <p class="bad">{explain(opened.problem.value, texts.value)}</p>}
      <header class="title">
        <h1 tabIndex={-1}>{visit ?? (opened?.problem.value ? title : said.loading)}</h1>
        {read && <Who request={read.request} />}
      </header>
      {read && opened && <Content opened={opened} read={read} />}
    </article>
  );
}

/** Returns the list to which a request's page leads back: the one that was looked at, or else one that it is on. */
function listOf(board: Board, name: string): List {
  const [own] = board.rows.value?.get(name)?.lists ?? [];
  return board.lastList ?? LISTS.find((it) => it === own) ?? Worklist.BOOKING_REQUESTS;
}

function Who({ request }: { request: BookingRequest }) {
  const { names } = texts.value;
  return (
    <>
      <p class="who">
        <PatientNumber patient={request.patient} />
        {request.priority > Priority.ROUTINE && (
          <span class="tag urgent">{nameOf(names.priority, request.priority)}</span>
        )}
      </p>
      <p class="now">
        <State request={request} />
      </p>
    </>
  );
}

function Content({ opened, read }: { opened: Opened; read: Read }) {
  const { request } = read;
  const { names, patient, request: said, locale } = texts.value;
  return (
    <>
      {opened.isSettled.value && (
        <p class="settled">
          {said.settled(clock(read.at, locale))}{" "}
          <button type="button" onClick={() => void opened.refresh()}>
            {said.again}
          </button>
        </p>
      )}
      {request.patient?.personalIdMasked && <p class="note">{patient.maskedLong}</p>}
      {request.warnings.map((warning) => (
        <p key={warning} class="note">
          {nameOf(names.warning, warning)}
        </p>
      ))}
      <div class="halves">
        <div>
          <Actions opened={opened} request={request} />
          <Facts request={request} />
        </div>
        <Timeline read={read} />
      </div>
    </>
  );
}

function Actions({ opened, request }: { opened: Opened; request: BookingRequest }) {
  const { names, request: said } = texts.value;
  const [intention, setIntention] = useState<Intention | undefined>(undefined);
  const heading = useRef<HTMLHeadingElement>(null);
  const offered = request.allowedActions.filter(hasForm);
  return (
    <section class="actions">
      <h2 ref={heading} tabIndex={-1}>
        {said.actions}
      </h2>
      {offered.length === 0 && <p>{said.noActions}</p>}
      <div class="buttons">
        {offered.map((action) => (
          <button key={action} type="button" onClick={() => setIntention(new Intention(action, request))}>
            {nameOf(names.action, action)}
          </button>
        ))}
      </div>
      {intention && (
        <ActionDialog
          opened={opened}
          intention={intention}
          onClose={(isDone) => {
            setIntention(undefined);
            // The button may be gone with the state that allowed it.
            if (isDone) requestAnimationFrame(() => heading.current?.focus());
          }}
        />
      )}
    </section>
  );
}
