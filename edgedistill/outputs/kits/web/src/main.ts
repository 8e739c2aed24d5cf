import * as ort from "onnxruntime-web/wasm";
import { decode } from "./decode";
import { replay } from "./golden";
import { type Latency, measured } from "./latency";
import { Model } from "./model";
import { SUMS_SHA256 } from "./pinned";

const THREADS = self.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency, 4) : 1;

function the<T extends HTMLElement>(id: string): T {
  return document.getElementById(id) as T;
}

function shown(element: HTMLElement, text: string, kind: "" | "ok" | "bad" = ""): void {
  element.textContent = text;
  element.dataset.kind = kind;
}

function failed(error: unknown): void {
  shown(the("status"), error instanceof Error ? error.message : String(error), "bad");
}

async function classify(model: Model, file: Blob): Promise<void> {
  const began = performance.now();
  const pixels = await decode(file);
  const decoded = performance.now();
  const answers = await model.classify(pixels);
  const ended = performance.now();
  const preview = the<HTMLImageElement>("preview");
  URL.revokeObjectURL(preview.src);
  preview.src = URL.createObjectURL(file);
  preview.hidden = false;
  the("answers").replaceChildren(
    ...answers.map(({ label, probability }) => {
      const row = document.createElement("li");
      row.style.setProperty("--share", `${100 * probability}%`);
      const [name, share] = [document.createElement("span"), document.createElement("span")];
      name.textContent = label;
      share.textContent = `${(100 * probability).toFixed(1)} %`;
      row.append(name, share);
      return row;
    }),
  );
  shown(the("none"), model.isNone(answers) ? "None of these: no class is probable enough." : "");
  shown(the("took"), `decoded in ${ms(decoded - began)}, classified in ${ms(ended - decoded)}`);
}

async function selfTest(model: Model): Promise<void> {
  const rows = await replay(model);
  const good = rows.filter((row) => row.ok).length;
  const said = good === rows.length ? "passed" : "FAILED: this browser gives other answers than the build";
  shown(the("verdict"), `Self-test: ${good} of ${rows.length} golden pictures, ${said}`, good === rows.length ? "ok" : "bad");
  const table = the<HTMLTableElement>("replay");
  table.replaceChildren();
  for (const cells of [
    ["picture", "pixels differ by", "outputs differ by", ""],
    ...rows.map((row) => [row.file, String(row.pixels), row.outputs.toPrecision(3), row.ok ? "pass" : "fail"]),
  ]) {
    const row = table.insertRow();
    for (const cell of cells) row.insertCell().textContent = cell;
  }
}

function showLatency(found: Latency): void {
  const rows: [string, string][] = [
    ["load", ms(found.load_ms)],
    ["first run", ms(found.first_run_ms)],
    [`run, p50 of ${found.runs}`, ms(found.run_p50_ms)],
    [`run, p95 of ${found.runs}`, ms(found.run_p95_ms)],
    ["from pixels to labels", ms(found.picture_to_label_ms)],
    ["threads", String(found.threads)],
  ];
  the("latency").replaceChildren(
    ...rows.flatMap(([name, value]) => {
      const [term, detail] = [document.createElement("dt"), document.createElement("dd")];
      [term.textContent, detail.textContent] = [name, value];
      return [term, detail];
    }),
  );
  the("copy").onclick = () => void navigator.clipboard.writeText(JSON.stringify(found, null, 2)).catch(failed);
}

function ms(value: number): string {
  return `${value < 10 ? value.toFixed(2) : value.toFixed(0)} ms`;
}

function listen(model: Model): void {
  const take = (file: Blob | null | undefined) => void (file && classify(model, file).catch(failed));
  for (const id of ["file", "photo"]) {
    const input = the<HTMLInputElement>(id);
    input.onchange = () => take(input.files?.[0]);
  }
  const drop = the("drop");
  drop.ondragover = (event) => event.preventDefault();
  drop.ondrop = (event) => {
    event.preventDefault();
    take(event.dataTransfer?.files[0]);
  };
  document.onpaste = (event) => take(event.clipboardData?.files[0]);
}

async function start(): Promise<void> {
  ort.env.wasm.numThreads = THREADS;
  ort.env.wasm.wasmPaths = new URL("./ort/", document.baseURI).href;
  const model = await Model.load("./model/");
  if (model.contract.task !== "classification") throw new Error("this page shows classes; the model gives vectors");
  shown(the("title"), `Classify a picture: ${model.contract.labels.length} classes`);
  listen(model);
  showLatency(await measured(model, THREADS, SUMS_SHA256));
  shown(the("status"), `${model.name} is ready`, "ok");
  await selfTest(model);
}

start().catch(failed);
if (import.meta.env.PROD && "serviceWorker" in navigator) void navigator.serviceWorker.register("./sw.js");
