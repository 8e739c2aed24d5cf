// The golden pictures of the package, replayed: whether this browser gives the answers of the machine that built it.

import { decode } from "./decode";
import type { Model } from "./model";
import type { Golden } from "./package";

export interface Replayed {
  file: string;
  /** The largest difference of a channel of the prepared picture, of 255. */
  pixels: number;
  /** The largest difference of an output. */
  outputs: number;
  ok: boolean;
}

/** Every golden picture, decoded and prepared by this kit. A channel may differ by 1, an output by the file's tolerance. */
export async function replay(model: Model): Promise<Replayed[]> {
  const golden = await model.files.json<Golden>(model.contract.golden);
  const expected = golden.files[model.name];
  if (expected === undefined) throw new Error(`the golden data have no outputs of ${model.name}`);
  const found: Replayed[] = [];
  for (const [number, picture] of golden.pictures.entries()) {
    const prepared = model.prepare(await picked(model, picture.file));
    const wanted = model.prepare(await picked(model, picture.prepared));
    const pixels = largest(prepared.data, wanted.data);
    const outputs = largest(await model.run(prepared), expected.outputs[number]);
    found.push({ file: picture.file, pixels, outputs, ok: pixels <= 1 && outputs <= expected.tolerance });
  }
  return found;
}

async function picked(model: Model, name: string) {
  return decode(new Blob([await model.files.bytes(name)], { type: "image/png" }));
}

function largest(one: ArrayLike<number>, other: ArrayLike<number>): number {
  if (one.length !== other.length) return Infinity;
  let most = 0;
  // Not a number is a difference as well.
  for (let i = 0; i < one.length; i++) most = Math.max(most, Number.isNaN(one[i]) ? Infinity : Math.abs(one[i] - other[i]));
  return most;
}
