// A measuring session in a page: loads a model, warms it up, samples it, alone or in turn with another. What is taken, and in
// which order, is as devices/agent has it; limits come with the job.

const post = (path, content = "") => fetch(path, { method: "POST", body: content });

const bytesOf = async (path) => new Uint8Array(await (await fetch(path)).arrayBuffer());

class Failure extends Error {
  constructor(kind, message, fix = "") {
    super(message);
    Object.assign(this, { kind, fix });
  }
}

const ARRAYS = {
  float32: Float32Array, float64: Float64Array, uint8: Uint8Array, int8: Int8Array, uint16: Uint16Array, int16: Int16Array,
  uint32: Uint32Array, int32: Int32Array, uint64: BigUint64Array, int64: BigInt64Array, bool: Uint8Array,
};

// Seeded numbers in [0, 1): mulberry32.
const generator = (seed) => () => {
  seed = (seed + 0x6d2b79f5) | 0;
  let mixed = Math.imul(seed ^ (seed >>> 15), 1 | seed);
  mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
  return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
};

// Integers wider than a byte are 0 or 1, which every index and token table accepts.
const randomTensor = (ort, type, shape, random) => {
  const size = shape.reduce((product, side) => product * side, 1);
  if (!ARRAYS[type]) throw new Failure("inputs", `no values can be made for an input of type ${type}`);
  const values = new ARRAYS[type](size);
  for (let place = 0; place < size; place++) {
    if (type.startsWith("float")) values[place] = Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
    else if (type === "uint8" || type === "int8") values[place] = Math.floor(random() * 256);
    else values[place] = type.endsWith("64") ? BigInt(random() < 0.5) : Number(random() < 0.5);
  }
  return new ort.Tensor(type, values, shape);
};

const NPY = { u1: "uint8", i1: "int8", f4: "float32", f8: "float64", i4: "int32", i8: "int64", u2: "uint16", b1: "bool" };

// The rows of a .npy file, each with a batch dimension of 1.
const rowsOf = (ort, bytes) => {
  const view = new DataView(bytes.buffer);
  const long = bytes[6] > 1;
  const began = long ? 12 : 10;
  const length = long ? view.getUint32(8, true) : view.getUint16(8, true);
  const header = new TextDecoder().decode(bytes.subarray(began, began + length));
  const type = NPY[/'descr': '[<|=]?(\w\d)'/.exec(header)?.[1]];
  const shape = /'shape': \(([^)]*)\)/.exec(header)?.[1].split(",").filter((side) => side.trim()).map(Number);
  if (!type || !shape?.length || header.includes("'fortran_order': True")) {
    throw new Failure("inputs", "the file of inputs cannot be read as an array");
  }
  const size = shape.slice(1).reduce((product, side) => product * side, 1);
  const values = new ARRAYS[type](bytes.buffer.slice(began + length));
  return Array.from({ length: shape[0] }, (_, row) =>
    new ort.Tensor(type, values.slice(row * size, (row + 1) * size), [1, ...shape.slice(1)]));
};

// What successive runs take: `rows` one by one, the same random values for every other input.
const feedsOf = (ort, session, job, rows) => {
  const shapes = job.input_shapes ?? {};
  const names = session.inputNames;
  const given = job.input_name || names[0];
  const wrong = Object.keys(shapes).filter((name) => !names.includes(name));
  if (rows && !names.includes(given)) wrong.push(given);
  if (wrong.length) throw new Failure("inputs", `the model has no input ${wrong.join(", ")}; it has ${names.join(", ")}`);
  const random = generator(0);
  const fixed = {};
  for (const input of session.inputMetadata) {
    if (rows && input.name === given) continue;
    const shape = shapes[input.name] ?? input.shape.map((side) => (typeof side === "number" && side > 0 ? side : 1));
    fixed[input.name] = randomTensor(ort, input.type, shape, random);
  }
  return rows ? rows.map((row) => ({ ...fixed, [given]: row })) : [fixed];
};

const loaded = async (ort, path, place, logSeverityLevel = 3) => {
  const bytes = await bytesOf(path);
  const began = performance.now();
  try {
    const session = await ort.InferenceSession.create(bytes, {
      executionProviders: [place.gpu ? "webgpu" : "wasm"], executionMode: "sequential", graphOptimizationLevel: "all",
      logSeverityLevel, intraOpNumThreads: place.threads, interOpNumThreads: 1,
    });
    return [session, performance.now() - began];
  } catch (error) {
    throw new Failure(/memory|bad_alloc/i.test(String(error)) ? "memory" : "load", `cannot load the file: ${error}`);
  }
};

// One run, of the next input; gives its duration in ns.
const timed = (session, feeds) => {
  let turn = 0;
  return async () => {
    const feed = feeds[turn++ % feeds.length];
    const began = performance.now();
    await session.run(feed);
    return Math.round((performance.now() - began) * 1e6);
  };
};

const warmUp = async (run, limits) => {
  const end = performance.now() + limits.warmup_s * 1000;
  let runs = 0;
  for (; runs < limits.warmup_runs || performance.now() < end; runs++) await run();
  return runs;
};

// Add the durations of runs for so long, at least `burst_runs` of them; one at least, and none begins after `lastEnd`.
const burst = async (run, samples, milliseconds, lastEnd, limits) => {
  const end = performance.now() + milliseconds;
  const least = samples.length + limits.burst_runs;
  for (;;) {
    samples.push(await run());
    const now = performance.now();
    if (now >= lastEnd || (now >= end && samples.length >= least)) return;
  }
};

const sampled = async (runs, job, limits) => {
  const samples = runs.map(() => []);
  const turns = [];
  const began = performance.now();
  const end = began + job.seconds * 1000;
  const lastEnd = began + limits.hard_limit_factor * job.seconds * 1000;
  let length = runs.length === 1 ? job.seconds * 1000 : job.burst_s * 1000;
  for (let now; (now = performance.now()) < lastEnd;) {
    if (now >= end) {
      if (samples.every((taken) => taken.length >= job.min_runs)) break;
      length = 0;
    }
    const before = samples.map((taken) => taken.length);
    for (const [place, run] of runs.entries()) await burst(run, samples[place], length, lastEnd, limits);
    turns.push(samples.map((taken, place) => taken.length - before[place]));
  }
  return { samples, turns };
};

const running = async (work) => {
  try {
    return await work();
  } catch (error) {
    if (error instanceof Failure) throw error;
    throw new Failure(/memory|bad_alloc/i.test(String(error)) ? "memory" : "run", `fails to run the file: ${error}`);
  }
};

// What WebGPU computes with, in the browser's words.
const adapterOf = async (limits) => {
  const fix = "chrome://gpu says why; a new driver, or a browser in a session with a display, may bring it";
  const adapter = await navigator.gpu?.requestAdapter({ powerPreference: "high-performance" });
  if (!adapter) throw new Failure("gpu", "it has no WebGPU here", fix);
  const { vendor, architecture, description, isFallbackAdapter } = adapter.info;
  if (isFallbackAdapter && !limits.fallback_adapter) {
    throw new Failure("gpu", `its WebGPU computes on the CPU here (${architecture})`, fix);
  }
  return [vendor, architecture, description].filter(Boolean).join(" ");
};

// What the runtime logs goes here while there is a place for it. It takes the console's functions when it is loaded.
let logged = null;
for (const name of ["log", "info", "warn", "error", "debug"]) {
  const write = console[name].bind(console);
  console[name] = (...words) => (logged ? logged.push(...words.join(" ").split("\n")) : write(...words));
}

// Where the runtime computes a file's operations, as it logs while it loads the file: their number, and those that WebGPU
// leaves to the CPU, counted by type. Null where it does not tell. Copies between the two are no operations.
const placed = async (ort, path, place) => {
  logged = [];
  const [session] = await loaded(ort, path, place, 0);
  const lines = logged;
  logged = null;
  await session.release();
  const elsewhere = {};
  let operations = 0;
  let provider = "";
  for (const line of lines) {
    const heading = /(All nodes|Node\(s\)) placed on \[(\w+)\]\. Number of nodes: (\d+)/.exec(line);
    const node = / {3}(\w+) \(.*\)$/.exec(line);
    if (heading) {
      provider = heading[2];
      if (heading[1] === "All nodes") operations = Number(heading[3]);
    } else if (provider && node && !node[1].startsWith("Memcpy")) {
      operations++;
      // Earlier releases call it JsExecutionProvider.
      if (!/^(WebGpu|Js)ExecutionProvider$/.test(provider)) elsewhere[node[1]] = (elsewhere[node[1]] ?? 0) + 1;
    }
  }
  return provider ? { operations, elsewhere } : null;
};

const measured = async () => {
  const { job, limits, gpu } = await (await fetch("job")).json();
  if (!self.crossOriginIsolated) throw new Failure("runtime", "is in a page that is not cross-origin isolated: its clock is coarse");
  const adapter = gpu ? await adapterOf(limits) : "";
  if (!job) return { adapter };
  const script = `./runtime/dist/ort.${gpu ? "webgpu" : "wasm"}.min.mjs`;
  const ort = await import(script).catch((error) => {
    throw new Failure("runtime", `cannot be loaded: ${error}`);
  });
  const place = { gpu, threads: job.threads };
  ort.env.wasm.numThreads = job.threads;
  ort.env.wasm.wasmPaths = new URL("runtime/dist/", location.href).href;
  ort.env.logLevel = "error";
  const rows = job.inputs ? rowsOf(ort, await bytesOf("files/inputs")) : null;
  await post("phase/ready");
  const [session, load_ms] = await loaded(ort, "files/model", place);
  if (!session.inputMetadata) {
    throw new Failure("runtime", "does not tell the types of inputs", "npm install onnxruntime-web@latest");
  }
  const runs = [timed(session, feedsOf(ort, session, job, rows))];
  const first_run_ms = await running(async () => (await runs[0]()) / 1e6);
  const warmup_runs = await running(() => warmUp(runs[0], limits));
  await post("phase/warm");
  if (job.anchor) {
    const [anchor] = await loaded(ort, "files/anchor", place);
    runs.push(timed(anchor, feedsOf(ort, anchor, {}, null)));
    await running(() => warmUp(runs[1], limits));
  }
  await post("phase/start");
  const { samples, turns } = await running(() => sampled(runs, job, limits));
  await post("phase/end");
  const [samples_ns, anchor_ns = []] = samples;
  const operations = gpu ? await placed(ort, "files/model", place) : null;
  return { adapter, operations, session: { samples_ns, anchor_ns, turns: job.anchor ? turns : [], warmup_runs, load_ms, first_run_ms } };
};

measured()
  .catch((error) => ({ error: { kind: error.kind ?? "page", message: String(error.message ?? error), fix: error.fix ?? "" } }))
  .then((answer) => post("answer", JSON.stringify(answer)));
