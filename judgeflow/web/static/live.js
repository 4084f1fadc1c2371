// Keeps a page as the server has it: hears that there is something new, reads the page again and changes what is different.
"use strict";
(() => {
  const PAUSE_MS = 700;
  const QUIET_MS = 30000;
  const status = document.getElementById("live-status");
  const spoken = document.getElementById("live-news");

  function figures() {
    const source = document.getElementById("chart-figures");
    return source ? JSON.parse(source.textContent) : {};
  }

  function draw() {
    if (window.judgeflow && window.Plotly) window.judgeflow.draw(figures());
  }

  // What the reader has opened, chosen or typed, and what is drawn already, stays as it is.
  const isMine = (element) => element.hasAttribute("data-chart") || element.hasAttribute("data-mine");
  const isSame = (one, other) => one.nodeType === other.nodeType && one.nodeName === other.nodeName && one.id === other.id;

  function take(one, other) {
    if (one.isEqualNode(other)) return;
    if (!isSame(one, other)) return one.replaceWith(other);
    if (one.nodeType !== Node.ELEMENT_NODE) return void (one.data = other.data);
    if (isMine(one)) return;
    for (const { name } of [...one.attributes]) if (name !== "open" && !other.hasAttribute(name)) one.removeAttribute(name);
    for (const { name, value } of other.attributes) if (name !== "open" && one.getAttribute(name) !== value) one.setAttribute(name, value);
    const [mine, theirs] = [[...one.childNodes], [...other.childNodes]];
    theirs.forEach((child, place) => (place < mine.length ? take(mine[place], child) : one.append(child)));
    mine.slice(theirs.length).forEach((child) => child.remove());
  }

  let [reading, again] = [false, false];
  async function read() {
    if (reading) return void (again = true);
    reading = true;
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
      if (!answer.ok) return say("away", `The page cannot be read now (${answer.status}); it tries again.`);
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const id of ["heading", "content", "chart-figures"]) {
        const [mine, theirs] = [document.getElementById(id), page.getElementById(id)];
        if (mine && theirs) take(mine, theirs);
      }
      document.title = page.title;
      document.body.dataset.version = page.body.dataset.version;
      if (window.judgeflow) window.judgeflow.reserve(figures());
      draw();
      say("live", "Live");
    } catch {
      say("away", "The server cannot be reached; the page tries again.");
    } finally {
      await new Promise((done) => setTimeout(done, PAUSE_MS));
      reading = false;
      if (again) [again] = [false, read()];
    }
  }

  function say(state, text) {
    if (!status || status.textContent === text) return;
    [status.className, status.textContent] = [`live ${state}`, text];
  }

  // A screen reader hears one sentence now and then, and always the last one.
  let [waiting, lastSpoken] = [null, -Infinity];
  function speak(text) {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      [lastSpoken, spoken.textContent] = [performance.now(), text];
    }, Math.max(0, lastSpoken + QUIET_MS - performance.now()));
  }

  let source = null;
  function listen() {
    const path = document.body.dataset.live;
    if (!path || source) return;
    source = new EventSource(`${path}?seen=${document.body.dataset.version}`);
    source.onopen = () => say("live", "Live");
    source.onerror = () => {
      say("away", "The server cannot be reached; the page tries again.");
      if (source && source.readyState === EventSource.CLOSED) {
        source = null;
        setTimeout(listen, 5000);
      }
    };
    source.addEventListener("news", (event) => {
      const news = JSON.parse(event.data);
      speak(news.summary);
      if (news.version !== document.body.dataset.version) read();
    });
  }

  // Nobody looks at a hidden page, so nothing is read for it.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden && source) [source] = [null, source.close()];
    if (!document.hidden) listen();
  });
  if (window.judgeflow) window.judgeflow.reserve(figures());
  const library = document.getElementById("chart-library");
  if (library) library.addEventListener("load", draw); // the text is there long before
  if (!document.hidden) listen();
})();
