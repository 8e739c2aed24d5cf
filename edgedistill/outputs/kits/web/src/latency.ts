// What the model takes on this device, in a form to send back: schemas/kit_latency.schema.json of the package describes it.

import type { Model } from "./model";
import type { Pixels } from "./preprocess";

const RUNS = 50;
const PICTURE: Pixels = { width: 640, height: 480, channels: 3, data: new Uint8Array(640 * 480 * 3).fill(128) };

export interface Latency {
  schema_version: 1;
  platform: "web";
  file: string;
  sha256_sums: string;
  device: string;
  system: string;
  threads: number;
  load_ms: number;
  first_run_ms: number;
  run_p50_ms: number;
  run_p95_ms: number;
  picture_to_label_ms: number;
  runs: number;
}

/** The first run, then the percentiles of `RUNS` more, and the way from decoded pixels to labels. In ms. */
export async function measured(model: Model, threads: number, sums: string): Promise<Latency> {
  const prepared = model.prepare(PICTURE);
  const first = await timed(() => model.run(prepared));
  const runs: number[] = [];
  for (let run = 0; run < RUNS; run++) runs.push(await timed(() => model.run(prepared)));
  runs.sort((one, other) => one - other);
  const at = (share: number) => runs[Math.ceil(share * runs.length) - 1];
  return {
    schema_version: 1,
    platform: "web",
    file: model.name,
    sha256_sums: sums,
    device: navigator.userAgent,
    // A page that is not cross-origin isolated has a coarse clock.
    system: self.crossOriginIsolated ? "cross-origin isolated" : "not cross-origin isolated",
    threads,
    load_ms: model.loadMs,
    first_run_ms: first,
    run_p50_ms: at(0.5),
    run_p95_ms: at(0.95),
    picture_to_label_ms: await timed(() => model.classify(PICTURE)),
    runs: RUNS,
  };
}

async function timed(run: () => Promise<unknown>): Promise<number> {
  const began = performance.now();
  await run();
  return performance.now() - began;
}
