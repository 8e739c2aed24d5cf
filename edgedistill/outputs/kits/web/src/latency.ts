// What the model takes on this device.

import type { Model } from "./model";
import type { Pixels } from "./preprocess";

const RUNS = 50;

export interface Latency {
  model: string;
  sha256_sums: string;
  user_agent: string;
  threads: number;
  isolated: boolean;
  load_ms: number;
  first_run_ms: number;
  run_p50_ms: number;
  run_p95_ms: number;
  picture_to_label_ms: number;
  runs: number;
}

/** The first run, then the percentiles of `RUNS` more, and the way from decoded pixels to labels. In ms. */
export async function measured(model: Model, pixels: Pixels, threads: number, sums: string): Promise<Latency> {
  const prepared = model.prepare(pixels);
  const first = await timed(() => model.run(prepared));
  const runs: number[] = [];
  for (let run = 0; run < RUNS; run++) runs.push(await timed(() => model.run(prepared)));
  runs.sort((one, other) => one - other);
  const at = (share: number) => runs[Math.ceil(share * runs.length) - 1];
  return {
    model: model.name,
    sha256_sums: sums,
    user_agent: navigator.userAgent,
    threads,
    isolated: self.crossOriginIsolated,
    load_ms: model.loadMs,
    first_run_ms: first,
    run_p50_ms: at(0.5),
    run_p95_ms: at(0.95),
    picture_to_label_ms: await timed(() => model.classify(pixels)),
    runs: RUNS,
  };
}

async function timed(run: () => Promise<unknown>): Promise<number> {
  const began = performance.now();
  await run();
  return performance.now() - began;
}
