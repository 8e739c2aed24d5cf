import { createHash } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, relative, sep } from "node:path";
import { defineConfig, type Plugin } from "vite";

const RUNTIME = ["ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"];

/**
 * Serves the runtime's own files under `ort/`. They are not bundled: a thread of WebAssembly starts from the script that it
 * was loaded with, and that must not be the page's.
 */
function runtime(): Plugin {
  const folder = dirname(createRequire(import.meta.url).resolve("onnxruntime-web/wasm"));
  const types = { mjs: "text/javascript", wasm: "application/wasm" };
  return {
    name: "runtime",
    configureServer(server) {
      for (const name of RUNTIME) {
        server.middlewares.use(`/ort/${name}`, (_, answer) => {
          answer.setHeader("Content-Type", types[name.split(".").pop() as keyof typeof types]);
          for (const [key, value] of Object.entries(headers)) answer.setHeader(key, value);
          answer.end(readFileSync(join(folder, name)));
        });
      }
    },
    generateBundle() {
      for (const name of RUNTIME) {
        this.emitFile({ type: "asset", fileName: `ort/${name}`, source: readFileSync(join(folder, name)) });
      }
    },
  };
}

/** Names every file of the build in sw.js, with a version that changes with them: the page then works offline. */
function offline(): Plugin {
  let folder = "";
  return {
    name: "offline",
    apply: "build",
    configResolved: (config) => void (folder = config.build.outDir),
    closeBundle() {
      const files = readdirSync(folder, { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile() && entry.name !== "sw.js")
        .map((entry) => relative(folder, join(entry.parentPath, entry.name)).split(sep).join("/"))
        .sort();
      const hash = createHash("sha256");
      for (const file of files) hash.update(file).update(readFileSync(join(folder, file)));
      const path = join(folder, "sw.js");
      const listed = JSON.stringify(["", ...files]);
      const script = readFileSync(path, "utf8").replace('"VERSION"', JSON.stringify(hash.digest("hex").slice(0, 16)));
      writeFileSync(path, script.replace('["FILES"]', listed));
    },
  };
}

// Cross-origin isolation gives WebAssembly threads and clocks of microseconds. Your own server has to send these as well.
const headers = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
};

export default defineConfig({
  base: "./",
  plugins: [runtime(), offline()],
  resolve: { conditions: ["onnxruntime-web-use-extern-wasm", "module", "browser", "development|production"] },
  server: { headers },
  preview: { headers },
  build: { target: "es2022", assetsInlineLimit: 0 },
  optimizeDeps: { exclude: ["onnxruntime-web"] },
});
