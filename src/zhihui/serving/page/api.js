// Calls to the server, the API key they carry, and what went wrong in words.

import { say } from "./words.js";

const KEPT = "zhihui.key";
const dialog = document.getElementById("key");
let asking = null;

/** A call that was not answered; its message is for the reader. */
export class Failure extends Error {}

/** Call a route and return its JSON; asks for a key where the server wants one. Throws Failure. */
export async function ask(path, body, signal) {
  for (;;) {
    const sent = sessionStorage.getItem(KEPT);
    const answer = await call(path, body, sent, signal);
    if (answer.ok) return answer.json();
    if (answer.status !== 401) throw new Failure(await reason(answer));
    const now = sessionStorage.getItem(KEPT);
    if (now === sent && !(await askForKey(sent !== null))) throw new Failure(say("key.missing"));
  }
}

async function call(path, body, key, signal) {
  const headers = key === null ? {} : { authorization: `Bearer ${key}` };
  const options = body === undefined
    ? { headers }
    : { method: "POST", headers: { ...headers, "content-type": "application/json" }, body: JSON.stringify(body) };
  try {
    return await fetch(path, { ...options, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure(say("error.network"));
  }
}

async function reason(answer) {
  if (answer.status === 429) return say("error.busy", answer.headers.get("retry-after") ?? "1");
  try {
    const { error } = await answer.json();
    return say("error.said", error.message ?? error);
  } catch {
    return say("error.said", `${answer.status} ${answer.statusText}`);
  }
}

/** Ask for a key, once for all calls that wait for it; resolves to whether one was given. */
function askForKey(wrong) {
  if (asking === null) {
    sessionStorage.removeItem(KEPT);
    asking = new Promise((resolve) => {
      const form = dialog.querySelector("form");
      dialog.querySelector(".status").textContent = wrong ? say("key.wrong") : "";
      form.onsubmit = (event) => {
        event.preventDefault();
        const given = form.elements.key.value.trim();
        // No header carries other characters; fetch would throw on them.
        if (!/^[\x21-\x7e]+$/.test(given)) {
          dialog.querySelector(".status").textContent = say("key.wrong");
          return;
        }
        sessionStorage.setItem(KEPT, given);
        dialog.close("given");
      };
      document.getElementById("key-cancel").onclick = () => dialog.close("");
      dialog.onclose = () => {
        form.reset();
        asking = null;
        resolve(dialog.returnValue === "given");
      };
      dialog.returnValue = "";
      dialog.showModal();
    });
  }
  return asking;
}
