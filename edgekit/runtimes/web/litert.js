// Run a .tflite file with LiteRT.js, on WebAssembly or WebGPU.

import {
  Tensor, getWebGpuDevice, loadAndCompile, loadLiteRt, supportsFeature,
} from "./assets/litert/index.js"; // prettier-ignore

const WASM = new URL("./assets/litert/wasm/", import.meta.url).href;

export async function start({ accelerator, threads }) {
  // Only with JSPI can a model run partly on the GPU and partly in WebAssembly.
  const jspi = accelerator === "webgpu" && (await supportsFeature("jspi"));
  const litert = await loadLiteRt(WASM, { threads: threads > 1, jspi });
  if (accelerator === "webgpu" && !getWebGpuDevice()) throw new Error("this browser gives no WebGPU device");
  const most = litert.liteRtWasm.getThreadCount();
  if (threads > 1 && threads > most) throw new Error(`LiteRT.js has ${most} threads here, ${threads} were asked for`);
}

export async function open(content, { accelerator, threads }) {
  const model = await loadAndCompile(content, {
    accelerator,
    cpuOptions: { numThreads: threads },
    gpuOptions: { precision: "fp32" }, // half precision would not stand the comparison with the host
  });
  return new Session(model, accelerator);
}

class Session {
  #model;
  #inputs = [];
  #results = [];

  constructor(model, accelerator) {
    this.#model = model;
    this.inputs = model.getInputDetails().map(describe);
    this.outputs = model.getOutputDetails().map(describe);
    const onGpu = model.options.accelerator === "webgpu" && model.isFullyAccelerated;
    this.fallback = accelerator === "webgpu" && !onGpu;
  }

  setInputs(arrays) {
    this.#inputs = arrays.map(({ data, shape }) => new Tensor(data, shape));
  }

  // Run once. The results of a GPU are waited for and read: run() alone only queues the work.
  async invoke() {
    for (const tensor of this.#results) tensor.delete();
    const results = await this.#model.run(this.#inputs);
    this.#results = [];
    for (const tensor of results) this.#results.push(tensor.accelerator === "wasm" ? tensor : await tensor.moveTo("wasm"));
  }

  outputsNow() {
    return this.outputs.map((about, index) => {
      const tensor = this.#results[index];
      return { ...about, shape: [...tensor.type.layout.dimensions], data: tensor.toTypedArray() };
    });
  }
}

function describe({ name, shape, dtype }) {
  return { name, shape: [...shape], dtype };
}
