/** The choice of a care unit. */

import { useEffect, useState } from "preact/hooks";
import { Worklist } from "../../../careinvitation/v1/worklist_service_pb.js";
import type { Board } from "../board.js";
import { hsaId } from "../model/format.js";
import { hashOf, isHsaId } from "../model/route.js";
import { token } from "../session.js";
import { texts } from "../text/language.js";

const PAGE_SIZE = 500;
/** A longer list of care units is cut off: a field takes any other. */
const PAGES_MAX = 4;

export function Units({ board }: { board: Board }) {
  const { unit, title } = texts.value;
  const [units, setUnits] = useState<string[] | undefined>(undefined);
  const bearer = token.value;
  useEffect(() => {
    document.title = `${unit.title} – ${title}`;
  }, [unit.title, title]);
  useEffect(() => {
    const end = new AbortController();
    // A failure that somebody can mend is told elsewhere: by the door.
    listUnits(board, end.signal).then(setUnits, () => undefined);
    return () => end.abort();
  }, [board, bearer]);
  return (
    <section class="card">
      <h1 tabIndex={-1}>{unit.title}</h1>
      <h2>{unit.known}</h2>
      {units?.length === 0 && <p>{unit.none}</p>}
      <ul class="units">
        {units?.map((careUnit) => (
          <li key={careUnit}>
            <a href={hashOf({ at: "list", careUnit, list: Worklist.BOOKING_REQUESTS })}>{hsaId(careUnit)}</a>
          </li>
        ))}
      </ul>
      <h2>{unit.other}</h2>
      <OtherUnit board={board} />
    </section>
  );
}

function OtherUnit({ board }: { board: Board }) {
  const { unit } = texts.value;
  const [id, setId] = useState("");
  const [isBad, setIsBad] = useState(false);
  return (
    <form
      noValidate
      onSubmit={(event) => {
        event.preventDefault();
        const capitals = id.trim().toUpperCase();
        setIsBad(!isHsaId(capitals));
        if (isHsaId(capitals)) {
          board.go({ at: "list", careUnit: `careUnits/${capitals}`, list: Worklist.BOOKING_REQUESTS });
        }
      }}
    >
      <label for="hsa-id">{unit.id}</label>
      <input
        id="hsa-id"
        value={id}
        autocomplete="off"
        spellcheck={false}
        aria-invalid={isBad}
        aria-describedby={isBad ? "hsa-id-bad" : undefined}
        onInput={({ currentTarget }) => setId(currentTarget.value)}
      />
      {isBad && (
        <p id="hsa-id-bad" class="bad" role="alert">
          {unit.bad}
        </p>
      )}
      <button type="submit" class="primary">
        {unit.open}
      </button>
    </form>
  );
}

async function listUnits(board: Board, signal: AbortSignal): Promise<string[]> {
  const found: string[] = [];
  let pageToken = "";
  for (let page = 0; page < PAGES_MAX; page += 1) {
    const query = { pageSize: PAGE_SIZE, pageToken };
    const answer = await board.ask((options) => board.clients.worklists.listCareUnits(query, options), signal);
    found.push(...answer.careUnits);
    pageToken = answer.nextPageToken;
    if (!pageToken) break;
  }
  return found;
}
