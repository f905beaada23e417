/** The lists with their counts. */

import type { Board } from "../board.js";
import { hashOf } from "../model/route.js";
import { type List, OTHER_LISTS, OWN_LISTS } from "../model/rows.js";
import { texts } from "../text/language.js";

export function Lists({ board }: { board: Board }) {
  const { lists } = texts.value;
  return (
    <nav class={board.isLive.value ? "lists" : "lists stale"} aria-label={lists.nav}>
      <h2>{lists.own}</h2>
      <Links board={board} lists={OWN_LISTS} />
      <h2>{lists.besides}</h2>
      <Links board={board} lists={OTHER_LISTS} />
    </nav>
  );
}

function Links({ board, lists }: { board: Board; lists: readonly List[] }) {
  const { names, lists: said } = texts.value;
  const route = board.route.value;
  const here = route.at === "list" ? route.list : undefined;
  return (
    <ul>
      {lists.map((list) => {
        const count = board.counts.value.get(list) ?? 0;
        return (
          <li key={list}>
            <a
              href={hashOf({ at: "list", careUnit: board.careUnit.value, list })}
              aria-current={list === here ? "page" : undefined}
            >
              <span>{names.list[list]}</span>
              {board.rows.value && (
                <span class="count" data-list={list}>
                  {count}
                  <span class="unseen"> {said.requests(count)}</span>
                </span>
              )}
            </a>
          </li>
        );
      })}
    </ul>
  );
}
