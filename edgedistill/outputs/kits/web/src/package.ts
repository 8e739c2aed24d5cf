// The package of the build, as it lies in public/model: read, and refused where a file is not the one that was built.

import { SUMS_SHA256 } from "./pinned";
import type { Step } from "./preprocess";

/** contract.json; schemas/contract.schema.json describes it. */
export interface Contract {
  schema_version: 2;
  task: "classification" | "embedding";
  preparation: Step[];
  input: { name: string; width: number; height: number };
  output: { name: string; width: number };
  labels: string[];
  files: Record<string, FileContract>;
  recommended: Record<string, string>;
  golden: string;
}

export interface FileContract {
  format: string;
  precision: string;
  input: { kind: string; dtype: string; layout: "NCHW" | "NHWC"; shape: number[] };
  tolerance: number;
  temperature: number | null;
  none_below: number | null;
}

/** golden/golden.json; schemas/golden.schema.json describes it. */
export interface Golden {
  pictures: { file: string; prepared: string; width: number; height: number }[];
  files: Record<string, { tolerance: number; outputs: number[][]; top: number[][] }>;
}

/** The files of a package. Each is compared with its hash in SHA256SUMS, and that with the hash in this kit. */
export class Package {
  private constructor(
    private readonly base: string,
    private readonly sums: ReadonlyMap<string, string>,
  ) {}

  /** Throws where SHA256SUMS is missing, or not the one that this kit was made for. */
  static async open(base: string): Promise<Package> {
    const bytes = await fetched(base + "SHA256SUMS");
    if ((await sha256(bytes)) !== SUMS_SHA256) {
      throw new Error("SHA256SUMS is not that of the package that this kit was made for: make the kit again");
    }
    const lines = new TextDecoder().decode(bytes).split("\n").filter(Boolean);
    return new Package(base, new Map(lines.map((line) => [line.slice(66), line.slice(0, 64)])));
  }

  /** The bytes of a file. Throws where it is missing, or not the file that was built. */
  async bytes(name: string): Promise<Uint8Array<ArrayBuffer>> {
    const stated = this.sums.get(name);
    if (stated === undefined) throw new Error(`${name} is not of the package`);
    const bytes = await fetched(this.base + name);
    if ((await sha256(bytes)) !== stated) throw new Error(`${name} is not the file that was built: its hash differs`);
    return bytes;
  }

  async json<T>(name: string): Promise<T> {
    return JSON.parse(new TextDecoder().decode(await this.bytes(name))) as T;
  }
}

async function fetched(url: string): Promise<Uint8Array<ArrayBuffer>> {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${url} cannot be read: ${answer.status} ${answer.statusText}`);
  return new Uint8Array(await answer.arrayBuffer());
}

async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", bytes);
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
