// Runs a package's ONNX file in onnxruntime-node on the golden pictures. node node.mjs PACKAGE NAME < RGB bytes of all, in rows

import { readFileSync } from "node:fs";
import * as ort from "onnxruntime-node";

const [folder, name] = process.argv.slice(2);
const contract = JSON.parse(readFileSync(`${folder}/contract.json`, "utf8"));
const { shape } = contract.files[name].input;
const pixels = readFileSync(0);
const size = shape.reduce((one, other) => one * other);
const session = await ort.InferenceSession.create(`${folder}/${name}`);
const found = [];
for (let start = 0; start < pixels.length; start += size) {
  const image = new ort.Tensor("uint8", new Uint8Array(pixels.subarray(start, start + size)), shape);
  const outputs = await session.run({ [contract.input.name]: image });
  found.push(Array.from(outputs[contract.output.name].data));
}
console.log(JSON.stringify(found));
