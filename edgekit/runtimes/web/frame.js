// One artifact in its runtime: the same commands and replies as edgekit/runtimes/agent.py.
// Times are integer nanoseconds; performance.now() has a step of 5 us on an isolated page, of up to 1 ms elsewhere.

const RUNTIMES = { tflite: "./litert.js", onnx: "./ort.js" };
const STEPS_PER_BATCH = 20; // a batch this many clock steps long is known to 5 %
const NS_PER_MS = 1e6;
const CHUNK = 0x8000;
export const ARRAYS = {
  float32: Float32Array,
  float64: Float64Array,
  float16: globalThis.Float16Array ?? Uint16Array,
  int8: Int8Array,
  uint8: Uint8Array,
  int16: Int16Array,
  uint16: Uint16Array,
  int32: Int32Array,
  uint32: Uint32Array,
  int64: BigInt64Array,
  uint64: BigUint64Array,
  bool: Uint8Array,
};

// WebAssembly memory only grows, so what it is at the end is its peak. The runtimes keep theirs to themselves.
const memories = new Set();
const { Memory, instantiate, instantiateStreaming } = WebAssembly;
const noting = (start) => async (...given) => {
  const started = await start.apply(WebAssembly, given);
  for (const item of Object.values((started.instance ?? started).exports)) {
    if (item instanceof Memory) memories.add(item);
  }
  return started;
};
WebAssembly.instantiate = noting(instantiate);
WebAssembly.instantiateStreaming = noting(instantiateStreaming);
WebAssembly.Memory = new Proxy(Memory, {
  construct(target, given) {
    const memory = new target(...given);
    memories.add(memory);
    return memory;
  },
});

const now = () => performance.now();
const elapsedNs = (start) => Math.round((now() - start) * NS_PER_MS);

// The smallest step of the clock, in ms.
function clockStep() {
  let smallest = Infinity;
  for (let seen = 0; seen < 10; seen++) {
    const start = now();
    let next = now();
    while (next === start) next = now();
    smallest = Math.min(smallest, next - start);
  }
  return smallest;
}

async function bytes(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url}: ${response.status}`);
  return new Uint8Array(await response.arrayBuffer());
}

function base64(array) {
  const view = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
  let text = "";
  for (let at = 0; at < view.length; at += CHUNK) text += String.fromCharCode(...view.subarray(at, at + CHUNK));
  return btoa(text);
}

// What the runtimes say of a failure goes to the console alone.
const LAST_WORDS = 6;
const CHATTER = /^(INFO|WARNING)/;
const said = [];
for (const level of ["error", "warn"]) {
  const write = console[level].bind(console);
  console[level] = (...given) => {
    const line = given.map(String).join(" ").slice(0, 300);
    if (!CHATTER.test(line)) said.push(line);
    write(...given);
  };
}

// Give the errors of a step a name that tells the other end which step it was.
async function named(name, step) {
  const before = said.length;
  try {
    return await step();
  } catch (error) {
    throw Object.assign(new Error(String(error?.message ?? error)), { name, console: said.slice(before).slice(-LAST_WORDS) });
  }
}

class Agent {
  #session;
  #step = clockStep();

  // Start the runtime, load the model, and say what it takes.
  async load({ format, model, accelerator, threads }) {
    const runtime = await import(RUNTIMES[format]);
    const content = await bytes(model);
    let start = now();
    await named("RuntimeRefused", () => runtime.start({ accelerator, threads }));
    const runtime_ns = elapsedNs(start);
    start = now();
    this.#session = await named("ModelRefused", () => runtime.open(content, { accelerator, threads }));
    const { inputs, outputs, fallback } = this.#session;
    const load_ns = elapsedNs(start);
    return { inputs, outputs, fallback, load_ns, runtime_ns, timer_step_ns: Math.ceil(this.#step * NS_PER_MS) };
  }

  // Set the inputs, each {url, dtype, shape} in the order of the model's, and run once.
  async feed({ inputs }) {
    const arrays = [];
    for (const { url, dtype, shape } of inputs) {
      const content = await bytes(url);
      arrays.push({ data: new ARRAYS[dtype](content.buffer), dtype, shape });
    }
    await this.#session.setInputs(arrays);
    const start = now();
    await this.#session.invoke();
    return { first_call_ns: elapsedNs(start) };
  }

  // Batches grow until the clock can tell them; the fastest is what a call takes.
  async warmup({ calls, seconds }) {
    let [fastest, done, batch] = [Infinity, 0, 1];
    const end = now() + seconds * 1000;
    while (done < calls || now() < end) {
      const spent = await this.#time(batch);
      done += batch;
      if (spent >= STEPS_PER_BATCH * this.#step) fastest = Math.min(fastest, spent / batch);
      else batch *= 2;
    }
    if (fastest === Infinity) fastest = (await this.#time(batch)) / batch || this.#step;
    return { calls: done, fastest_ns: Math.max(1, Math.round(fastest * NS_PER_MS)) };
  }

  async group({ samples, calls_per_sample, lead_in, limit_s }) {
    await this.#time(lead_in);
    const samples_ns = [];
    const end = now() + limit_s * 1000;
    while (samples_ns.length < samples && (!samples_ns.length || now() < end)) {
      const spent = (await this.#time(calls_per_sample)) / calls_per_sample;
      samples_ns.push(Math.max(1, Math.round(spent * NS_PER_MS)));
    }
    return { samples_ns };
  }

  async run({ inputs }) {
    await this.feed({ inputs });
    return this.#results();
  }

  async outputs() {
    await this.#session.invoke();
    return this.#results();
  }

  async #results() {
    const arrays = await this.#session.outputsNow();
    return { outputs: arrays.map(({ data, ...about }) => ({ ...about, data: base64(data) })) };
  }

  // Profile a model; meant for a frame that does nothing else.
  async trace({ format, model, accelerator, threads, runs }) {
    const runtime = await import(RUNTIMES[format]);
    const content = await bytes(model);
    await named("RuntimeRefused", () => runtime.start({ accelerator, threads }));
    return { events: await named("ModelRefused", () => runtime.trace(content, { accelerator, runs })) };
  }

  memory() {
    const sizes = [...memories].map((memory) => memory.buffer.byteLength);
    return { peak_bytes: sizes.reduce((sum, size) => sum + size, 0) };
  }

  async #time(calls) {
    const start = now();
    for (let call = 0; call < calls; call++) await this.#session.invoke();
    return now() - start;
  }
}

globalThis.agent = new Agent();
