/** Builds the page once, as it is deployed. */

import { build } from "vite";

export default async function setup(): Promise<void> {
  await build({ logLevel: "warn" });
}
