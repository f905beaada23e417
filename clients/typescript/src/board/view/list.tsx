/** One list: its requests in an order. */

import { useEffect, useRef, useState } from "preact/hooks";
import { Priority } from "../../../careinvitation/v1/booking_request_pb.js";
import { Worklist } from "../../../careinvitation/v1/worklist_service_pb.js";
import type { Board } from "../board.js";
import { day, period } from "../model/format.js";
import { hashOf, requestRoute } from "../model/route.js";
import { type List, ORDERS, type Order, type Row, rowsOf } from "../model/rows.js";
import { texts } from "../text/language.js";
import { nameOf } from "../text/names.js";
import { PatientNumber } from "./patient.js";
import { State } from "./state.js";

/** Rows that are shown at first, and how many more at a time. */
const STEP = 50;

export function ListPage({ board, list }: { board: Board; list: List }) {
  const { lists, names, title } = texts.value;
  const [limit, setLimit] = useState(STEP);
  const name = names.list[list];
  const rows = board.rows.value && rowsOf(board.rows.value, list, board.order.value);
  const count = rows?.length;
  useEffect(() => {
    document.title = `${name} – ${title}`;
    board.lastList = list;
  }, [board, list, name, title]);
  useRemarks(board, name, count);
  return (
    <section class={board.isLive.value ? "list" : "list stale"}>
      <div class="bar">
        <h1 tabIndex={-1}>{name}</h1>
        <OrderBy board={board} />
      </div>
      {!rows && <p>{lists.loading}</p>}
      {rows && <Table board={board} rows={rows} limit={limit} />}
      {count !== undefined && count > limit && (
        <p class="more">
          {lists.shown(limit, count)}{" "}
          <button type="button" onClick={() => setLimit(limit + STEP)}>
            {lists.more(Math.min(STEP, count - limit))}
          </button>
        </p>
      )}
    </section>
  );
}

function OrderBy({ board }: { board: Board }) {
  const { lists } = texts.value;
  return (
    <label class="order">
      {lists.order}{" "}
      <select
        value={board.order.value}
        onChange={({ currentTarget }) => {
          board.order.value = currentTarget.value as Order;
        }}
      >
        {ORDERS.map((order) => (
          <option key={order} value={order}>
            {lists.orders[order]}
          </option>
        ))}
      </select>
    </label>
  );
}

interface Shown {
  row: Row;
  /** True of a row that has left the list while it had the focus: it stays until the focus moves on. */
  isGone: boolean;
}

function Table({ board, rows, limit }: { board: Board; rows: Row[]; limit: number }) {
  const { lists } = texts.value;
  const [shown, focus] = useFocusKept(rows.slice(0, limit));
  useFocusOnReturn(board, shown);
  if (shown.length === 0) return <p class="empty">{lists.empty}</p>;
  return (
    <table>
      <thead>
        <tr>
          <th scope="col">{lists.patient}</th>
          <th scope="col">{lists.visit}</th>
          <th scope="col">{lists.period}</th>
          <th scope="col">{lists.state}</th>
          <th scope="col">{lists.guarantee}</th>
        </tr>
      </thead>
      <tbody>
        {shown.map((it) => (
          <TableRow key={it.row.request.name} board={board} shown={it} focus={focus} />
        ))}
      </tbody>
    </table>
  );
}

function TableRow({
  board,
  shown: { row, isGone },
  focus,
}: {
  board: Board;
  shown: Shown;
  focus: (name: string) => void;
}) {
  const { lists, names, locale } = texts.value;
  const { request } = row;
  const visitId = `visit-${request.name.split("/").at(-1)}`;
  const isAtRisk = row.lists.includes(Worklist.GUARANTEE_AT_RISK);
  return (
    <tr class={isGone ? "gone" : ""} onFocusIn={() => focus(request.name)} onFocusOut={() => focus("")}>
      <th scope="row">
        <a
          href={hashOf(requestRoute(request.name))}
          aria-describedby={visitId}
          data-name={request.name}
          onClick={() => {
            board.lastOpened = request.name;
          }}
        >
          <PatientNumber patient={request.patient} />
        </a>
        {request.priority > Priority.ROUTINE && (
          <span class="tag urgent">{nameOf(names.priority, request.priority)}</span>
        )}
      </th>
      <td id={visitId} data-label={lists.visit}>
        {request.visitType?.displayName || request.visitType?.code}
        <span class="minor">{nameOf(names.visitKind, request.visitKind)}</span>
      </td>
      <td data-label={lists.period}>{period(request.constraints?.requestedPeriod, locale)}</td>
      <td data-label={lists.state}>{isGone ? <span class="tag">{lists.gone}</span> : <State request={request} />}</td>
      <td data-label={lists.guarantee} class={isAtRisk ? "risk" : ""}>
        {day(request.careGuaranteeDate, locale) || "–"}
        {isAtRisk && <span class="tag risk">{lists.atRisk}</span>}
      </td>
    </tr>
  );
}

/** Keeps the row that has the focus in its place when it leaves the list, so that nobody's focus is lost. */
function useFocusKept(rows: Row[]): [Shown[], (name: string) => void] {
  const kept = useRef<{ row: Row; at: number } | undefined>(undefined);
  const [focused, setFocused] = useState("");
  const shown: Shown[] = rows.map((row) => ({ row, isGone: false }));
  const at = rows.findIndex(({ request }) => request.name === focused);
  const found = rows[at];
  if (!focused) kept.current = undefined;
  else if (found) kept.current = { row: found, at };
  else if (kept.current) shown.splice(kept.current.at, 0, { row: kept.current.row, isGone: true });
  return [shown, setFocused];
}

/** Puts the focus back on the row whose request was opened. */
function useFocusOnReturn(board: Board, shown: Shown[]) {
  const isThere = shown.some(({ row }) => row.request.name === board.lastOpened);
  useEffect(() => {
    if (!isThere) return;
    const link = document.querySelector<HTMLElement>(`[data-name="${CSS.escape(board.lastOpened)}"]`);
    board.lastOpened = "";
    // After the view's own heading has got it.
    requestAnimationFrame(() => link?.focus());
  }, [board, isThere]);
}

/** Tells a screen reader of the list's new length, once in a while. */
function useRemarks(board: Board, name: string, count: number | undefined) {
  const last = useRef<number | undefined>(undefined);
  const isLive = board.isLive.value;
  useEffect(() => {
    if (last.current !== undefined && count !== undefined && last.current !== count && isLive) {
      board.announcer.remark(texts.peek().lists.now(name, count));
    }
    last.current = count;
  }, [board, name, count, isLive]);
  useEffect(() => () => board.announcer.hush(), [board]);
}
