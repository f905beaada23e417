/** Asks for a token. */

import { useEffect, useRef } from "preact/hooks";
import type { Problem } from "../../client/problem.js";
import type { Board } from "../board.js";
import { enter } from "../session.js";
import { texts } from "../text/language.js";

export function SignIn({ board, problem }: { board: Board; problem: Problem }) {
  const { door } = texts.value;
  const input = useRef<HTMLInputElement>(null);
  useEffect(() => {
    document.title = door.title;
    input.current?.focus();
  }, [door.title]);
  const why = { TOKEN_EXPIRED: door.expired, TOKEN_INVALID: door.invalid }[problem.reason] ?? door.why;
  return (
    <form
      class="card"
      onSubmit={(event) => {
        event.preventDefault();
        if (!input.current?.value.trim()) return;
        board.door.value = undefined;
        enter(input.current.value);
      }}
    >
      <h1 tabIndex={-1}>{door.title}</h1>
      <p id="token-why">{why}</p>
      <label for="token">{door.token}</label>
      <input
        id="token"
        ref={input}
        type="password"
        autocomplete="off"
        spellcheck={false}
        required
        aria-describedby="token-why token-hint"
      />
      <p id="token-hint" class="hint">
        {door.hint}
      </p>
      <button type="submit" class="primary">
        {door.enter}
      </button>
    </form>
  );
}
