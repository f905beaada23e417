import type { Plugin } from "vite";
import { defineConfig } from "vitest/config";

/** Lets the built page run its own scripts and styles alone. Vite's server for development needs more. */
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' data:",
  "connect-src 'self' https: http://127.0.0.1:* http://localhost:*",
  "base-uri 'none'",
  "form-action 'none'",
].join("; ");

const policy: Plugin = {
  name: "content-security-policy",
  apply: "build",
  transformIndexHtml: () => [
    { tag: "meta", attrs: { "http-equiv": "Content-Security-Policy", content: POLICY }, injectTo: "head-prepend" },
  ],
};

export default defineConfig({
  // The page works from any folder of any host.
  base: "./",
  plugins: [policy],
  server: { host: "127.0.0.1", port: 5173, strictPort: true },
  test: {
    include: ["tests/**/*.test.ts"],
    globalSetup: "tests/build.ts",
    testTimeout: 30_000,
    hookTimeout: 60_000,
  },
});
