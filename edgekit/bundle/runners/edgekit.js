// The model of this folder in a browser: const model = await open("model.json"); await model.run(image).
// Needs the runtime's files in runtime/ (see edgekit.html). Everything else it needs to know stands in model.json.

const ARRAYS = { float32: Float32Array, int8: Int8Array, uint8: Uint8Array, int32: Int32Array };
const RUNTIMES = { tflite: openLiteRt, onnx: openOrt };
const ANSWERS = { classification: classify, detection: detect, generic: (outputs) => outputs, custom: (outputs) => outputs };
const BEST = 5;

export async function open(url = "model.json", runtime = "runtime/") {
  const about = await (await got(url)).json();
  const content = new Uint8Array(await (await got(new URL(about.file, new URL(url, location.href)))).arrayBuffer());
  const call = await RUNTIMES[about.format](content, new URL(runtime, location.href).href);
  return {
    about,
    // image: anything a canvas can draw. Returns what the task asks for.
    run: async (image) => answer(about, await call([input(about, pixels(about, image))])),
    // values: the samples of the input, in its layout, before preprocessing.
    runValues: async (values) => answer(about, await call([input(about, values)])),
  };
}

async function got(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url}: ${response.status}`);
  return response;
}

async function openLiteRt(content, runtime) {
  const { Tensor, loadAndCompile, loadLiteRt } = await import(`${runtime}litert/index.js`);
  await loadLiteRt(`${runtime}litert/wasm/`);
  const model = await loadAndCompile(content, { accelerator: "wasm" });
  return async (inputs) => {
    const results = await model.run(inputs.map(({ data, shape }) => new Tensor(data, shape)));
    const names = model.getOutputDetails().map(({ name }) => name);
    const outputs = results.map((tensor, index) => ({
      name: names[index], shape: [...tensor.type.layout.dimensions], data: tensor.toTypedArray().slice(),
    })); // prettier-ignore
    for (const tensor of results) tensor.delete();
    return outputs;
  };
}

async function openOrt(content, runtime) {
  const ort = await import(`${runtime}ort/ort.wasm.min.mjs`);
  ort.env.wasm.wasmPaths = `${runtime}ort/`;
  ort.env.wasm.numThreads = 1;
  const session = await ort.InferenceSession.create(content, { executionProviders: ["wasm"] });
  return async (inputs) => {
    const feeds = Object.fromEntries(
      inputs.map(({ dtype, data, shape }, index) => [session.inputNames[index], new ort.Tensor(dtype, data, shape)]),
    );
    const results = await session.run(feeds);
    return session.outputNames.map((name) => ({ name, shape: [...results[name].dims], data: results[name].data }));
  };
}

// The pixels of an image, 0 to 255, at the size and in the layout that the model takes.
function pixels({ inputs: [{ shape, layout }], preprocess: { color } }, image) {
  const [height, width, channels] = layout === "NCHW" ? [shape[2], shape[3], shape[1]] : shape.slice(1);
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0, width, height);
  const rgba = context.getImageData(0, 0, width, height).data;
  const values = new Float32Array(height * width * channels);
  for (let at = 0; at < height * width; at++) {
    const [r, g, b] = rgba.subarray(at * 4, at * 4 + 3);
    const gray = 0.299 * r + 0.587 * g + 0.114 * b; // ITU-R BT.601, as Pillow does
    const parts = channels === 1 ? [gray] : color === "bgr" ? [b, g, r] : [r, g, b];
    parts.forEach((part, channel) => {
      values[layout === "NCHW" ? channel * height * width + at : at * channels + channel] = part;
    });
  }
  return values;
}

// x = (pixel - mean) * scale, in the type of the model's input.
function input({ inputs: [{ shape, layout, dtype, quantization }], preprocess: { mean, scale } }, values) {
  const channels = layout === "NCHW" ? shape[1] : shape.at(-1);
  const plane = values.length / channels;
  const data = new ARRAYS[dtype](values.length);
  values.forEach((value, at) => {
    const channel = layout === "NCHW" ? Math.floor(at / plane) : at % channels;
    const x = (value - mean[channel % mean.length]) * scale[channel % scale.length];
    data[at] = quantization ? Math.round(x / quantization.scale + quantization.zero_point) : x;
  });
  return { data, dtype, shape };
}

// The runtimes may give outputs other names than model.json has; their order is the same, or their shapes tell.
function answer(about, results) {
  const outputs = {};
  const left = [...results];
  for (const { name, shape, quantization } of about.outputs) {
    const same = left.findIndex((result) => result.name === name);
    const fits = left.findIndex((result) => String(result.shape) === String(shape));
    const [result] = left.splice(same >= 0 ? same : Math.max(fits, 0), 1);
    const { scale, zero_point } = quantization ?? { scale: 1, zero_point: 0 };
    outputs[name] = { shape, data: Float32Array.from(result.data, (value) => (Number(value) - zero_point) * scale) };
  }
  return ANSWERS[about.task.kind](outputs, about);
}

function classify(outputs, { labels }) {
  const { data } = Object.values(outputs).reduce((a, b) => (b.data.length > a.data.length ? b : a));
  return [...data]
    .map((score, number) => ({ label: labels[number] ?? String(number), score }))
    .sort((a, b) => b.score - a.score)
    .slice(0, BEST);
}

// Boxes x1, y1, x2, y2 in pixels of the model's input, best first, after suppression in each class.
function detect(outputs, { task, labels }) {
  const kept = [];
  for (const found of candidates(outputs, task, labels.length).sort((a, b) => b.score - a.score)) {
    const beaten = !["final", "lists"].includes(task.decoder) &&
      kept.some((other) => other.category === found.category && overlap(other.box, found.box) > task.nms_iou); // prettier-ignore
    if (!beaten) kept.push(found);
    if (kept.length === task.max_detections) break;
  }
  return kept.map(({ box, score, category }) => ({ label: labels[category] ?? String(category), score, box }));
}

function candidates(outputs, task, named) {
  const found = [];
  const probability = (score) => (task.score_logits ? 1 / (1 + Math.exp(-score)) : score);
  const add = (box, score, category) => {
    if (score > task.score_threshold) found.push({ box: inPixels(corners(box, task.box_format), task), score, category });
  };
  if (task.decoder === "heatmap") throw new Error("this page does not read a map of centres: decode outputs yourself");
  if (task.decoder === "lists") {
    const [boxes, scores, classes] = [task.boxes_output, task.scores_output, task.classes_output].map((name) => outputs[name].data);
    scores.forEach((score, row) => add(boxes.subarray(row * 4, row * 4 + 4), probability(score), Math.round(classes[row])));
    return found;
  }
  if (task.decoder === "boxes_scores") {
    const [boxes, scores] = [outputs[task.boxes_output], outputs[task.scores_output]];
    const classes = scores.shape[2];
    scores.data.forEach((score, at) => {
      const row = Math.floor(at / classes);
      add(boxes.data.subarray(row * 4, row * 4 + 4), probability(score), at % classes);
    });
    return found;
  }
  const { shape, data } = outputs[task.detections_output];
  const extra = 4 + (task.objectness ? 1 : 0);
  const upright = task.decoder === "final" || shape[2] === extra + named;
  const [rows, columns] = upright ? [shape[1], shape[2]] : [shape[2], shape[1]];
  for (let row = 0; row < rows; row++) {
    const line = Float32Array.from({ length: columns }, (_, at) => data[upright ? row * columns + at : at * rows + row]);
    if (task.decoder === "final") add(line.subarray(0, 4), probability(line[4]), Math.round(line[5]));
    else {
      const seen = task.objectness ? probability(line[4]) : 1;
      line.subarray(extra).forEach((score, at) => add(line.subarray(0, 4), seen * probability(score), at));
    }
  }
  return found;
}

function inPixels(box, task) {
  if (task.box_scale !== "relative") return box;
  const [height, width] = task.image_size;
  return box.map((side, at) => side * (at % 2 ? height : width));
}

function corners([a, b, c, d], format) {
  if (format === "yxyx") return [b, a, d, c];
  return format === "cxcywh" ? [a - c / 2, b - d / 2, a + c / 2, b + d / 2] : [a, b, c, d];
}

function overlap(one, other) {
  const width = Math.min(one[2], other[2]) - Math.max(one[0], other[0]);
  const height = Math.min(one[3], other[3]) - Math.max(one[1], other[1]);
  const shared = Math.max(width, 0) * Math.max(height, 0);
  const area = (box) => Math.max(box[2] - box[0], 0) * Math.max(box[3] - box[1], 0);
  const joined = area(one) + area(other) - shared;
  return joined > 0 ? shared / joined : 0;
}
