/** Starts the board, with the server that `settings.json` names beside the page. */

import { render } from "preact";
import { Board } from "./board.js";
import { App } from "./view/app.js";

const root = document.getElementById("board");
const settings = await fetch("settings.json", { cache: "no-cache" });
const { server } = (await settings.json()) as { server: string };
if (root) render(<App board={new Board(server)} />, root);
