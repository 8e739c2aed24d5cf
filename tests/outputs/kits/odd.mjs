// node odd.mjs PICTURES OUT: what preprocess.mjs makes of each picture by each list of steps.

import { readFileSync, writeFileSync } from "node:fs";
import { prepare } from "./preprocess.mjs";

const [pictures, out] = process.argv.slice(2);
const index = JSON.parse(readFileSync(`${pictures}/index.json`, "utf8"));
index.pictures.forEach(({ width, height }, number) => {
  const data = new Uint8Array(readFileSync(`${pictures}/${number}.rgba`));
  index.preparations.forEach((steps, k) => {
    writeFileSync(`${out}/${number}-${k}.rgb`, prepare({ width, height, channels: 4, data }, steps).data);
  });
});
