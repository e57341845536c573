// Run an .onnx file with onnxruntime-web, on WebAssembly or WebGPU.

const HERE = new URL("./assets/ort/", import.meta.url).href;
const FILES = { wasm: "ort.wasm.min.mjs", webgpu: "ort.webgpu.min.mjs" };
// The smallest model there is, one Identity: loading it starts the runtime, which has no function for that.
const IDENTITY = "CAg6NwoQCgF4EgF5IghJZGVudGl0eRIBZ1oPCgF4EgoKCAgBEgQKAggBYg8KAXkSCgoICAESBAoCCAFCBAoAEA0=";
let ort;

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

function create(content, accelerator) {
  return ort.InferenceSession.create(content, { executionProviders: [accelerator], logSeverityLevel: 3 });
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
