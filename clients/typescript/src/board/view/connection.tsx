/** The state of the connection: never more alive than it is. */

import type { Board } from "../board.js";
import { explain } from "../model/explain.js";
import { clock } from "../model/format.js";
import { texts } from "../text/language.js";

export function Badge({ board }: { board: Board }) {
  const { kind } = board.connection.value;
  return (
    <span class={`badge ${kind}`}>
      <span class="dot" aria-hidden="true" />
      {texts.value.connection[kind]}
    </span>
  );
}

/** Says that what is shown may be old, and since when. */
export function Interruption({ board }: { board: Board }) {
  const { connection, locale } = texts.value;
  const state = board.connection.value;
  const heard = board.heardAt.value;
  if (state.kind === "live" || (state.kind === "connecting" && !heard)) return null;
  const since = heard && clock(heard, locale);
  return (
    <div class="interruption">
      <p>{state.kind === "refused" ? explain(state.problem, texts.value) : told()}</p>
      <button type="button" onClick={() => board.retry()}>
        {connection.tryNow}
      </button>
    </div>
  );

  function told() {
    if (!since) return connection.waitingFirst;
    return state.kind === "silent" ? connection.silentLong(since) : connection.waitingLong(since);
  }
}
