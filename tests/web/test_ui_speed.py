"""5,000 messages and 300 contacts: typing and scrolling stay smooth. Figures are printed; what is held is far above."""

from __future__ import annotations

import statistics

from tests.web.chatting import MakeDevice
from tests.web.scenes import stage

TYPE = """async () => {
  const field = document.querySelector('textarea');
  const took = [];
  for (let n = 0; n < 60; n += 1) {
    const begun = performance.now();
    field.setRangeText('ab '[n % 3], field.value.length, field.value.length, 'end');
    field.dispatchEvent(new InputEvent('input', {bubbles: true}));
    await Promise.resolve();
    document.querySelector('.messages').getBoundingClientRect();
    took.push(performance.now() - begun);
    await new Promise((done) => requestAnimationFrame(done));
  }
  return took;
}"""

CHANGE = """async () => {
  const took = [];
  for (let n = 0; n < 30; n += 1) {
    const begun = performance.now();
    window.double.receive(n % 2 ? 'bob' : 'person-' + (n + 1), 'news ' + n);
    window.double.dispatchEvent(new Event('change'));
    await Promise.resolve();
    document.querySelector('.messages').getBoundingClientRect();
    took.push(performance.now() - begun);
    await new Promise((done) => requestAnimationFrame(done));
  }
  return took;
}"""

SCROLL = """async () => {
  const box = document.querySelector('.messages');
  const gaps = [];
  let last = performance.now();
  for (let n = 0; n < 120; n += 1) {
    box.scrollTop -= 160;
    await new Promise((done) => requestAnimationFrame(done));
    const now = performance.now();
    gaps.push(now - last);
    last = now;
  }
  return gaps;
}"""


def test_typing_news_and_scrolling_among_five_thousand_messages(device: MakeDevice) -> None:
    shown = stage(device, wide=True).scene("many", "#/c/bob").settled()
    page = shown.page
    typing, news, scrolling = (sorted(page.evaluate(what)) for what in (TYPE, CHANGE, SCROLL))
    for name, took in (("a letter", typing), ("a message", news), ("a frame of scrolling", scrolling)):
        print(f"{name}: median {statistics.median(took):.1f} ms, 95 % {took[int(len(took) * 0.95)]:.1f} ms")
    assert statistics.median(typing) < 16
    assert statistics.median(news) < 50
    assert statistics.median(scrolling) < 60
    assert page.locator("*").count() < 12_000
