// The page: takes commands from edgekit one at a time, hands each to the frame of its artifact, and answers.
// One exchange carries the last reply up and the next command down; the server holds it until there is one.

const PAGE = crypto.getRandomValues(new Uint32Array(2)).join("-");
const RETRIES = 3; // of a request that the network lost
const RETRY_MS = 1000;
const frames = new Map();
const state = document.getElementById("state");

const commands = {
  facts,

  // A frame is a realm of its own: its runtime and its WebAssembly memory are not shared with other artifacts.
  open({ frame }) {
    const element = document.createElement("iframe");
    element.src = "frame.html";
    frames.set(frame, element);
    return new Promise((resolve, reject) => {
      element.onload = () => resolve({});
      element.onerror = () => reject(new Error("the frame did not load"));
      document.body.append(element);
    });
  },

  close({ frame }) {
    frames.get(frame)?.remove();
    frames.delete(frame);
    return {};
  },
};

async function facts() {
  const adapter = await navigator.gpu?.requestAdapter();
  return {
    user_agent: navigator.userAgent,
    brands: (navigator.userAgentData?.brands ?? []).map(({ brand, version }) => ({ brand, version })),
    cores: navigator.hardwareConcurrency ?? 1,
    memory_bytes: (navigator.deviceMemory ?? 0) * 2 ** 30, // a rounded figure, Chromium only
    isolated: self.crossOriginIsolated === true,
    secure: self.isSecureContext === true,
    gpu: adapter ? gpuFacts(adapter) : null,
  };
}

function gpuFacts({ info = {} }) {
  const { vendor = "", architecture = "", device = "", description = "" } = info;
  return { vendor, architecture, device, description, fallback: info.isFallbackAdapter === true };
}

async function answer({ id, name, frame, ...given }) {
  try {
    const run = commands[name] ?? ((rest) => frames.get(frame).contentWindow.agent[name](rest));
    return { id, ...(await run({ frame, ...given })) };
  } catch (error) {
    const { message = error, name: kind = "Error", console = [] } = error ?? {};
    return { id, error: String(message), kind: String(kind), console };
  }
}

async function exchange(reply) {
  const body = JSON.stringify({ page: PAGE, reply });
  for (let attempt = 1; ; attempt++) {
    try {
      return await fetch("exchange", { method: "POST", body });
    } catch (error) {
      if (attempt === RETRIES) throw error;
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
}

async function serve() {
  for (let reply = null; ; ) {
    const response = await exchange(reply);
    if (response.status === 410) return "Done. You can close this page.";
    if (response.status === 409) return "Another page is measuring already. Close this one.";
    if (!response.ok) return `edgekit answered with an error: ${response.status}`;
    const command = await response.json();
    if (command.text) state.textContent = command.text;
    reply = command.name === "wait" ? null : await answer(command);
  }
}

new Worker("beat.js"); // it beats from a thread of its own while this one computes
addEventListener("pagehide", () => navigator.sendBeacon("gone", PAGE));
navigator.wakeLock?.request("screen").catch(() => {}); // refused without a tap in some browsers: the page asks for it
facts().then(({ isolated, cores }) => {
  document.getElementById("facts").textContent =
    `${cores} cores; threads ${isolated ? "available" : "not available: they need https or localhost"}`;
});
serve()
  .catch(() => "The connection to edgekit is lost. Start it again and reload.")
  .then((text) => {
    state.textContent = text;
  });
