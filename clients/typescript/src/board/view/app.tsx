/** The page: its head, its state of connection, and one view. */

import { useEffect, useRef } from "preact/hooks";
import type { Board } from "../board.js";
import { hsaId } from "../model/format.js";
import { hashOf } from "../model/route.js";
import { token } from "../session.js";
import { other, switchLanguage, texts } from "../text/language.js";
import { Badge, Interruption } from "./connection.js";
import { ListPage } from "./list.js";
import { Lists } from "./lists.js";
import { RequestPage } from "./request.js";
import { SignIn } from "./sign-in.js";
import { Units } from "./units.js";

export function App({ board }: { board: Board }) {
  const { title, skip } = texts.value;
  const main = useRef<HTMLElement>(null);
  useFocusOnArrival(board, main);
  return (
    <>
      <button type="button" class="skip" onClick={() => main.current?.focus()}>
        {skip}
      </button>
      <header class="head">
        <p class="brand">{title}</p>
        <Where board={board} />
        <Controls board={board} />
      </header>
      <p role="status" class="unseen">
        {board.announcer.said.value}
      </p>
      <View board={board} main={main} />
    </>
  );
}

function View({ board, main }: { board: Board; main: { current: HTMLElement | null } }) {
  const route = board.route.value;
  const place = hashOf(route);
  if (board.door.value || route.at === "units") {
    return (
      <main id="main" ref={main} tabIndex={-1} class="alone">
        {board.door.value ? <SignIn board={board} problem={board.door.value} /> : <Units board={board} />}
      </main>
    );
  }
  return (
    <div class={`columns at-${route.at}`}>
      <Lists board={board} />
      <main id="main" ref={main} tabIndex={-1}>
        <Interruption board={board} />
        {route.at === "list" ? (
          <ListPage key={place} board={board} list={route.list} />
        ) : (
          <RequestPage key={place} board={board} route={route} />
        )}
      </main>
    </div>
  );
}

/** The care unit and the state of the connection. */
function Where({ board }: { board: Board }) {
  const { unit } = texts.value;
  if (!board.careUnit.value || board.door.value) return null;
  return (
    <p class="where">
      <span>{hsaId(board.careUnit.value)}</span> <a href={hashOf({ at: "units" })}>{unit.change}</a>
      <Badge board={board} />
    </p>
  );
}

function Controls({ board }: { board: Board }) {
  const { door } = texts.value;
  const { self, tag } = other.value;
  return (
    <p class="controls">
      {token.value && !board.door.value && (
        <button type="button" onClick={() => board.signOut()}>
          {door.leave}
        </button>
      )}
      <button type="button" lang={tag} onClick={switchLanguage}>
        {self}
      </button>
    </p>
  );
}

/** Puts the focus on the heading of a view that somebody has gone to, where a screen reader begins to read. */
function useFocusOnArrival(board: Board, main: { current: HTMLElement | null }) {
  const route = board.route.value;
  const place = hashOf(route);
  const isFirst = useRef(true);
  useEffect(() => {
    if (isFirst.current) {
      isFirst.current = false;
      return;
    }
    scrollTo(0, 0);
    main.current?.querySelector<HTMLElement>("h1")?.focus();
  }, [place, main]);
}
