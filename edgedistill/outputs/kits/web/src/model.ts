// The model: from a picture to labels with their probabilities.

import * as ort from "onnxruntime-web/wasm";
import { type Contract, type FileContract, Package } from "./package";
import { type Pixels, prepare, tensorData } from "./preprocess";

export interface Answer {
  label: string;
  index: number;
  probability: number;
}

export class Model {
  private constructor(
    readonly files: Package,
    readonly contract: Contract,
    readonly name: string,
    private readonly session: ort.InferenceSession,
    /** Milliseconds from the bytes of the file to a session that can run. */
    readonly loadMs: number,
  ) {}

  /** Throws where the package is not the one that this kit was made for, or has no file for the web. */
  static async load(base: string): Promise<Model> {
    const files = await Package.open(base);
    const contract = await files.json<Contract>("contract.json");
    const name = contract.recommended.web;
    if (name === undefined) throw new Error("the package has no file for the web: build with the format onnx");
    const bytes = await files.bytes(name);
    const began = performance.now();
    const session = await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] });
    return new Model(files, contract, name, session, performance.now() - began);
  }

  get file(): FileContract {
    return this.contract.files[this.name];
  }

  /** What the contract makes of decoded pixels: RGB of the model's size. */
  prepare(pixels: Pixels): Pixels {
    return prepare(pixels, this.contract.preparation);
  }

  /** The model's outputs for prepared pixels: logits, or a vector of length 1. */
  async run(prepared: Pixels): Promise<Float32Array> {
    const { shape, layout } = this.file.input;
    const image = new ort.Tensor("uint8", tensorData(prepared, layout), shape);
    const outputs = await this.session.run({ [this.contract.input.name]: image });
    return outputs[this.contract.output.name].data as Float32Array;
  }

  /** The most probable classes of decoded pixels, the likeliest first. */
  async classify(pixels: Pixels, count = 5): Promise<Answer[]> {
    return this.answers(await this.run(this.prepare(pixels)), count);
  }

  /** Whether the likeliest of these is not probable enough: then the answer is "none of these". Where the build file does
   * not ask for that answer, this is never so. */
  isNone(answers: Answer[]): boolean {
    return answers.length > 0 && answers[0].probability < (this.file.none_below ?? 0);
  }

  answers(logits: Float32Array, count = 5): Answer[] {
    const most = logits.reduce((one, other) => Math.max(one, other), -Infinity);
    const temperature = this.file.temperature ?? 1;
    const shares = Array.from(logits, (logit) => Math.exp((logit - most) / temperature));
    const sum = shares.reduce((one, other) => one + other, 0);
    return shares
      .map((share, index) => ({ label: this.contract.labels[index], index, probability: share / sum }))
      .sort((one, other) => other.probability - one.probability || one.index - other.index)
      .slice(0, count);
  }
}
