// Run an .onnx file with onnxruntime-web, on WebAssembly or WebGPU.

import { ARRAYS } from "./frame.js";

const HERE = new URL("./assets/ort/", import.meta.url).href;
const FILES = { wasm: "ort.wasm.min.mjs", webgpu: "ort.webgpu.min.mjs" };
// The smallest model there is, one Identity: loading it starts the runtime, which has no function for that.
const IDENTITY = "CAg6NwoQCgF4EgF5IghJZGVudGl0eRIBZ1oPCgF4EgoKCAgBEgQKAggBYg8KAXkSCgoICAESBAoCCAFCBAoAEA0=";
const TRACE_WARMUP = 3;
let ort;

// The runtime prints its profile to the console as it was when the runtime started.
let printed = null;
const log = console.log.bind(console);
console.log = (...given) => (printed ? printed.push(given.join(" ")) : log(...given));

export async function start({ accelerator, threads }) {
  ort = await import(HERE + FILES[accelerator]);
  ort.env.logLevel = "error";
  ort.env.wasm.wasmPaths = HERE;
  ort.env.wasm.numThreads = threads;
  const identity = Uint8Array.from(atob(IDENTITY), (letter) => letter.charCodeAt(0));
  await (await create(identity, accelerator)).release();
}

export async function open(content, { accelerator }) {
  return new Session(await create(content, accelerator));
}

function create(content, accelerator, options = {}) {
  return ort.InferenceSession.create(content, { executionProviders: [accelerator], logSeverityLevel: 3, ...options });
}

// Run on zeros with the profiler on; return its events, in the form that ONNX Runtime writes everywhere.
export async function trace(content, { accelerator, runs }) {
  const session = await create(content, accelerator, { enableProfiling: true });
  const feeds = {};
  for (const { name, shape, dtype } of session.inputMetadata.map(describe)) {
    const sizes = shape.map((size) => Math.max(1, size));
    feeds[name] = new ort.Tensor(dtype, new ARRAYS[dtype](sizes.reduce((product, size) => product * size, 1)), sizes);
  }
  for (let run = 0; run < TRACE_WARMUP + runs; run++) await session.run(feeds);
  printed = [];
  try {
    session.endProfiling();
    return JSON.parse(printed.join("\n"));
  } finally {
    printed = null;
    await session.release();
  }
}

class Session {
  #session;
  #feeds = {};
  #results = {};

  constructor(session) {
    this.#session = session;
    this.inputs = session.inputMetadata.map(describe);
    this.outputs = session.outputMetadata.map(describe);
    this.fallback = false;
  }

  setInputs(arrays) {
    this.#feeds = {};
    arrays.forEach(({ data, dtype, shape }, index) => {
      this.#feeds[this.inputs[index].name] = new ort.Tensor(dtype, data, shape);
    });
  }

  // Run once. Inputs are copied in and outputs out, on WebGPU too: that is how a page calls it.
  async invoke() {
    this.#results = await this.#session.run(this.#feeds);
  }

  outputsNow() {
    return this.outputs.map(({ name }) => {
      const { dims, type, data } = this.#results[name];
      return { name, shape: [...dims], dtype: type, data };
    });
  }
}

function describe({ name, shape, type }) {
  return { name, shape: (shape ?? []).map((size) => (typeof size === "number" ? size : -1)), dtype: type };
}
