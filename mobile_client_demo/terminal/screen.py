"""The full screen: prompt_toolkit around the pure parts. It paints what `painting` says, and hands on what is typed."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from prompt_toolkit.application import Application
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition, has_completions
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.layout import BufferControl, Float, FloatContainer, HSplit, Layout, UIContent, UIControl, Window
from prompt_toolkit.layout.dimension import Dimension
from prompt_toolkit.layout.menus import CompletionsMenu
from prompt_toolkit.layout.processors import BeforeInput, Processor, Transformation, TransformationInput
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.styles import Style

from aldis.mobile_client_demo.terminal import events as e
from aldis.mobile_client_demo.terminal.commands import completions
from aldis.mobile_client_demo.terminal.conversation import scrolled
from aldis.mobile_client_demo.terminal.look import Fragments, Look
from aldis.mobile_client_demo.terminal.painting import LIST, NARROW, hints, lower, page_rows, upper
from aldis.mobile_client_demo.terminal.state import State, pointed
from aldis.mobile_client_demo.terminal.text import fit
from aldis.mobile_client_demo.terminal.transfers import typed_path
from aldis.mobile_client_demo.terminal.update import update

TICK = 0.5
TYPING_EVERY = 3.0
"""Seconds: how often the friend is told that one types."""
INPUT_ROWS = 6
STYLE = Style.from_dict({
    "header": "bold reverse", "hints": "ansibrightblack", "border": "ansibrightblack", "dim": "ansibrightblack",
    "chosen": "bold reverse", "here": "ansigreen bold", "unread": "ansiyellow bold", "time": "ansibrightblack",
    "me": "ansigreen", "peer": "ansicyan bold", "day": "ansibrightblack", "file": "underline", "page": "",
    "problem": "ansired italic", "tick.waiting": "ansibrightblack", "tick.sent": "ansibrightblack",
    "tick.delivered": "ansibrightblack", "tick.read": "ansibrightblue bold", "tick.failed": "ansired bold",
    "online": "ansigreen", "offline": "ansiyellow bold", "notice": "ansicyan", "bad": "ansired bold",
    "transfer": "ansicyan", "prompt": "bold",
})  # fmt: skip


class Painted(UIControl):
    """What a pure function makes of the size."""

    def __init__(self, paint: Callable[[int, int], list[Fragments]]) -> None:
        self._paint = paint

    def create_content(self, width: int, height: int) -> UIContent:
        lines: list[StyleAndTextTuples] = [list(line) for line in self._paint(width, height)]
        return UIContent(get_line=lambda place: lines[place], line_count=len(lines), show_cursor=False)


class _Fit(Processor):
    """What was pasted is no more to be trusted than what was received."""

    def apply_transformation(self, transformation_input: TransformationInput) -> Transformation:
        fragments = transformation_input.fragments
        return Transformation([(style, "".join(map(fit, text))) for style, text, *_ in fragments])


class _Completer(Completer):
    def __init__(self, screen: Screen) -> None:
        self._screen = screen

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        look = self._screen.look
        for one in completions(document.text_before_cursor, self._screen.state, listing):
            yield Completion(one.text, start_position=-one.back, display=look.line(one.text))


def listing(folder: str) -> list[tuple[str, bool]]:
    try:
        with os.scandir(typed_path(folder or ".")) as entries:
            return [(entry.name, entry.is_dir()) for entry in entries]
    except OSError:
        return []


class Worker(Protocol):
    """What does what the screen asks for. Both return at once."""

    def perform(self, effect: e.Effect) -> None: ...

    def typing(self, to: str) -> None: ...


class Screen:
    """`run` once. `post` may be called from any thread, before and after."""

    def __init__(self, state: State, look: Look) -> None:
        self.state, self.look = state, look
        self._worker: Worker | None = None
        self._typed_at = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._early: list[e.Event] = []
        self._drafts: dict[str, str] = {}
        self.buffer = Buffer(multiline=True, completer=_Completer(self), on_text_changed=self._changed)
        self._app: Application[None] = Application(
            layout=Layout(self._layout()), key_bindings=self._keys(), style=STYLE, full_screen=True,
            mouse_support=False, color_depth=None if look.colours else ColorDepth.DEPTH_1_BIT,
        )  # fmt: skip
        self._app.ttimeoutlen = 0.1  # an Escape of its own, over slow lines too
        self._app.timeoutlen = 0.3

    def post(self, event: e.Event) -> None:
        loop = self._loop
        if loop is None:
            self._early.append(event)
            return
        try:
            loop.call_soon_threadsafe(self.take, event)
        except RuntimeError:
            pass  # the screen is gone

    def take(self, event: e.Event) -> None:
        """In the loop."""
        before = self.state
        self.state, effects = update(before, event)
        self._do(effects)
        if before.active != self.state.active:
            self._drafts[before.active] = self.buffer.text
            self.buffer.text = self._drafts.pop(self.state.active, "")
            self.buffer.cursor_position = len(self.buffer.text)
        if before.returns != self.state.returns and not self.buffer.text:
            self.buffer.text = self.state.returned
            self.buffer.cursor_position = len(self.buffer.text)
        self._app.invalidate()

    def _do(self, effects: Iterable[e.Effect]) -> None:
        for effect in effects:
            if isinstance(effect, e.Quit):
                self._leave()
            elif self._worker is not None:
                self._worker.perform(effect)

    async def run(self, worker: Worker) -> None:
        """Until one leaves, or SIGTERM or SIGHUP comes. The terminal is as it was before, whatever is raised."""
        self._loop, self._worker = asyncio.get_running_loop(), worker
        for number in (signal.SIGTERM, signal.SIGHUP):
            self._loop.add_signal_handler(number, self._leave)
        failed: list[BaseException] = []

        def broken(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
            failed.append(context.get("exception") or RuntimeError(context["message"]))
            self._leave()

        self._loop.set_exception_handler(broken)
        early, self._early = self._early, []
        for event in early:
            self.take(event)
        ticking = asyncio.create_task(self._tick())
        try:
            await self._app.run_async(set_exception_handler=False, handle_sigint=False)
        except EOFError:
            pass  # the terminal is gone
        finally:
            ticking.cancel()
            self._loop = None
        if failed:
            raise failed[0]

    def _leave(self) -> None:
        if self._app.is_running and not self._app.is_done:
            self._app.exit()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            now = time.time_ns() // 1_000_000
            before = self.state
            if now // 1000 != before.now // 1000 or before.notices:
                self.take(e.Ticked(now))

    # The parts

    def _layout(self) -> FloatContainer:
        def measured(columns: int, rows: int) -> list[Fragments]:
            if (columns < NARROW) != self.state.narrow:
                self.state, effects = update(self.state, e.Resized(columns < NARROW))
                self._do(effects)
            return upper(self.state, columns, rows, self.look)

        def below() -> list[Fragments]:
            size = self._app.output.get_size()
            return lower(self.state, size.columns, self.look, most=min(3, max(1, size.rows // 6)))

        prompt = BeforeInput(lambda: [("class:prompt", self._prompt())])
        typed = BufferControl(self.buffer, input_processors=[_Fit(), prompt])
        return FloatContainer(
            HSplit([
                Window(Painted(measured), height=Dimension(min=1, weight=1), dont_extend_height=False),
                Window(Painted(lambda *_: below()), height=lambda: Dimension.exact(len(below()))),
                Window(typed, height=self._input_height, wrap_lines=True, dont_extend_height=True),
                Window(Painted(lambda width, _: [hints(self.state, width, self.look)]), height=1),
            ]),
            [Float(CompletionsMenu(max_height=8, scroll_offset=1), xcursor=True, ycursor=True)],
        )  # fmt: skip

    def _prompt(self) -> str:
        return self.look.line(f"{self.state.active or '/'}> ")

    def _input_height(self) -> Dimension:
        rows = min(INPUT_ROWS, max(1, self._app.output.get_size().rows // 3))
        return Dimension(min=1, max=rows)

    def _room(self) -> tuple[int, int]:
        """Columns and rows of the conversation as it stands now, header aside."""
        size = self._app.output.get_size()
        columns = size.columns if self.state.narrow else size.columns - LIST - 1
        info = self._app.layout.container
        assert isinstance(info, FloatContainer)
        split = info.content
        assert isinstance(split, HSplit)
        window = split.children[0]
        assert isinstance(window, Window)
        rows = window.render_info.window_height if window.render_info else size.rows - 3
        return columns, max(1, rows - 1)

    def _changed(self, _buffer: Buffer) -> None:
        now = time.monotonic()
        contact = self.state.contacts.get(self.state.active)
        if (
            self.buffer.text and not self.buffer.text.startswith("/") and now - self._typed_at > TYPING_EVERY
            and contact is not None and contact.standing == "friend" and self.state.connection.online
        ):  # fmt: skip
            self._typed_at = now
            if self._worker is not None:
                self._worker.typing(contact.user)

    # Keys

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()
        in_list = Condition(lambda: self.state.narrow and self.state.listing and not self.buffer.text)

        def bind(*names: str, when: Condition | bool = True) -> Callable[[Callable[[KeyPressEvent], None]], Any]:
            def add(handler: Callable[[KeyPressEvent], None]) -> None:
                for name in names:
                    keys.add(*name.split(" "), filter=when, eager=True)(handler)

            return add

        bind("enter")(self._enter)
        bind("escape enter", "c-j")(lambda _: self.buffer.newline(copy_margin=False))
        bind("c-n")(lambda _: self.take(e.Stepped(1)))
        bind("c-p")(lambda _: self.take(e.Stepped(-1)))
        bind("pageup")(lambda _: self._scroll(1))
        bind("pagedown")(lambda _: self._scroll(-1))
        bind("up", when=in_list)(lambda _: self.take(e.Pointed(-1)))
        bind("down", when=in_list)(lambda _: self.take(e.Pointed(1)))
        bind("tab")(lambda _: self._complete(1))
        bind("s-tab")(lambda _: self._complete(-1))
        bind("c-l")(lambda event: event.app.renderer.clear())
        bind("c-x")(lambda _: self.take(e.Entered("/cancel")) if self.state.transfers else None)
        bind("c-c")(lambda _: self._cancel_or_leave())
        bind("c-q")(lambda _: self._leave())
        bind("c-d", when=Condition(lambda: not self.buffer.text))(lambda _: self._leave())

        @keys.add("escape", "/")
        def command(_: KeyPressEvent) -> None:
            """Typed so fast that it looks like Alt-/: a command must not go out as a text for want of its slash."""
            self.take(e.Escaped())
            self.buffer.insert_text("/")

        @keys.add("escape", filter=~has_completions)
        def escape(_: KeyPressEvent) -> None:
            self.take(e.Escaped())

        @keys.add("escape", filter=has_completions)
        def close(_: KeyPressEvent) -> None:
            self.buffer.cancel_completion()

        return keys

    def _enter(self, _event: KeyPressEvent) -> None:
        if self.buffer.complete_state is not None and self.buffer.complete_state.current_completion is not None:
            self.buffer.complete_state = None
            return
        text = self.buffer.text
        if not text and self.state.narrow and self.state.listing:
            self.take(e.Opened(pointed(self.state)))
            return
        self.buffer.reset(append_to_history=False)
        self.take(e.Entered(text))

    def _complete(self, by: int) -> None:
        if self.buffer.complete_state is None:
            self.buffer.start_completion(insert_common_part=True)
        elif by > 0:
            self.buffer.complete_next()
        else:
            self.buffer.complete_previous()

    def _scroll(self, direction: int) -> None:
        columns, rows = self._room()
        if self.state.page is not None:
            most = max(0, len(page_rows(self.state, columns, self.look)) - rows)
            self.take(e.Paged(min(most, max(0, self.state.page.top - direction * rows))))
        else:
            self.take(scrolled(self.state, columns, rows, direction * max(1, rows - 1), self.look))

    def _cancel_or_leave(self) -> None:
        if self.buffer.text:
            self.buffer.reset(append_to_history=False)
        else:
            self._leave()
