// What HTML alone cannot do: dropped files, keys, and saying to screen readers what has changed. No framework, nothing from elsewhere.
"use strict";

(() => {
  const live = document.getElementById("live");

  // One polite live region says what changed; the same words are not said twice.
  let said = "";
  const announce = (text) => {
    if (text && text !== said) {
      said = text;
      live.textContent = text;
    }
  };
  const announceFrom = (root) => root.querySelectorAll?.("[data-say]").forEach((each) => announce(each.dataset.say));
  document.addEventListener("htmx:afterSettle", () => announceFrom(document));
  // A whole case that came to its end: its hits and files are there now.
  document.addEventListener("htmx:afterSwap", (event) => {
    if (event.detail.target.id === "progress-part" && document.querySelector("[data-ended]")) location.reload();
  });

  // What went wrong is shown above the page, and read out: it is an alert. It goes when the next thing succeeds.
  document.addEventListener("htmx:beforeRequest", (event) => {
    if (!event.detail.requestConfig?.headers?.["vidfed-live"]) document.getElementById("trouble").replaceChildren();
  });
  document.addEventListener("htmx:afterSwap", (event) => {
    if (event.detail.target.id === "preview") document.getElementById("preview-box")?.focus();
    if (event.detail.target.id === "trouble") event.detail.target.scrollIntoView({ block: "nearest" });
  });

  // Dropped and chosen files go one by one, as they are. They are hashed when all are there.
  const drop = document.getElementById("drop");
  if (drop) {
    const progress = document.getElementById("progress");
    const trouble = document.getElementById("trouble");
    const fail = (text) => {
      const line = document.createElement("p");
      line.className = "error";
      line.textContent = text;
      trouble.append(line);
    };
    let busy = Promise.resolve();
    const send = async (files) => {
      trouble.replaceChildren();
      if (files.length > 2000) return fail(drop.dataset.tooMany);
      let number = 0;
      for (const { file, name } of files) {
        number += 1;
        progress.textContent = drop.dataset.sending.replace("{number}", number).replace("{count}", files.length);
        try {
          const answer = await fetch(drop.dataset.files, {
            method: "POST",
            body: file,
            headers: { "vidfed-name": encodeURIComponent(name), "content-type": "application/octet-stream", "hx-request": "true" },
          });
          if (!answer.ok) {
            const text = new DOMParser().parseFromString(await answer.text(), "text/html").body.textContent.trim();
            fail(`${drop.dataset.failed} ${text}`);
          }
        } catch {
          fail(`${drop.dataset.failed} ${name}`);
        }
      }
      progress.textContent = drop.dataset.hashing;
      await htmx.ajax("POST", drop.dataset.hash, { target: "#draft", swap: "outerHTML" });
      progress.textContent = "";
      announce(document.querySelector("#draft caption")?.textContent);
    };
    const queue = (files) => {
      busy = busy.then(() => send(files));
    };
    const chosen = (event) => {
      queue([...event.target.files].map((file) => ({ file, name: file.webkitRelativePath || file.name })));
      event.target.value = "";
    };
    document.getElementById("files").addEventListener("change", chosen);
    document.getElementById("folder").addEventListener("change", chosen);

    const below = async (entry, found) => {
      if (entry.isFile) {
        const file = await new Promise((done, failed) => entry.file(done, failed));
        found.push({ file, name: entry.fullPath.replace(/^\//, "") });
      } else if (entry.isDirectory) {
        const reader = entry.createReader();
        for (;;) {
          const some = await new Promise((done, failed) => reader.readEntries(done, failed));
          if (!some.length) break;
          for (const each of some) await below(each, found);
        }
      }
    };
    for (const kind of ["dragenter", "dragover"]) {
      drop.addEventListener(kind, (event) => {
        event.preventDefault();
        drop.classList.add("over");
      });
    }
    drop.addEventListener("dragleave", () => drop.classList.remove("over"));
    drop.addEventListener("drop", async (event) => {
      event.preventDefault();
      drop.classList.remove("over");
      const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
      const found = [];
      for (const entry of entries) await below(entry, found);
      queue(found);
    });
    // A file dropped beside the field would replace the page by itself.
    for (const kind of ["dragover", "drop"]) window.addEventListener(kind, (event) => event.preventDefault());
  }

  // Copying.
  document.addEventListener("click", async (event) => {
    const button = event.target.closest?.("[data-copy]");
    if (button) {
      await navigator.clipboard.writeText(button.dataset.copy);
      announce(`${button.dataset.copied}: ${button.dataset.copy}`);
    }
    if (event.target.closest?.("[data-keys]")) document.getElementById("keys").showModal();
  });

  // Keys. Never with Ctrl, Alt or Meta, which are the browser's, and never while somebody writes.
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || document.querySelector("dialog[open]")) return;
    if (event.target.closest("input, select, textarea, [contenteditable]")) return;
    const entries = [...document.querySelectorAll(".entry")];
    const at = entries.indexOf(document.activeElement?.closest?.(".entry"));
    const arrow = event.target.closest(".scroll, summary, button, a") ? "" : event.key;
    const step = event.key === "j" || arrow === "ArrowDown" ? 1 : event.key === "k" || arrow === "ArrowUp" ? -1 : 0;
    if (event.key === "?") {
      document.getElementById("keys").showModal();
    } else if (step && entries.length) {
      entries[Math.min(Math.max(at + step, 0), entries.length - 1)].focus();
    } else if (event.key === "Enter" && at >= 0 && document.activeElement === entries[at]) {
      entries[at].querySelector("a, summary, button")?.click();
    } else if (event.key === "d" && entries.length && entries[Math.max(at, 0)].dataset.details) {
      location.assign(entries[Math.max(at, 0)].dataset.details);
    } else if (event.key === "c" && entries.length) {
      entries[Math.max(at, 0)].querySelector("[data-copy]")?.click();
    } else if (/^[1-9]$/.test(event.key)) {
      document.querySelectorAll("nav a")[Number(event.key) - 1]?.click();
      return;
    } else {
      return;
    }
    event.preventDefault();
  });
})();
