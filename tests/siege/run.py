"""One siege: start the site, let devices publish and attackers attack, and see what is left."""

import asyncio
import contextlib
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from tests.siege.attackers import Answers
from tests.siege.attackers.kinds import ATTACKS
from tests.siege.evidence import Attacked, Evidence
from tests.siege.good import GoodDevice
from tests.siege.schedule import Bout, schedule
from tests.siege.site import Shape, Site
from tests.siege.watch import HealthWatch, MemoryWatch

NICENESS = 19
"""Attackers leave the processors to what they attack: everything runs on one machine, and our web
process has a niceness of 10."""
OVERTIME_SECONDS = 60.0
RECEIPTS_SECONDS_MAX = 120.0
"""In which good devices must have all their receipts once the attackers have gone."""
DRAIN_SECONDS_MAX = 300.0
FROZEN = (0.3, 0.4)
"""The part of the siege during which PostgreSQL is frozen: what attackers sent waits then."""


class Run:
    """The parts of one siege."""

    def __init__(
        self,
        folder: Path,
        mosquitto: Path,
        shape: Shape,
        seed: int,
        seconds: float,
        kinds: Sequence[str] = tuple(ATTACKS),
    ) -> None:
        self.seconds = seconds
        self.under_way: set[str] = set()
        self.attacks = 0
        self._seed = seed
        self._bouts = schedule(seed, seconds, kinds)
        self._site = Site(folder, mosquitto, shape)
        self.devices = [GoodDevice(seed, role, port, seconds) for role, port in self._site.roles()]
        self._attacked = {kind: Attacked(0, 0, Counter()) for kind in kinds}
        self._problems: list[str] = []

    async def go(self, on_progress: Callable[["Run"], None]) -> Evidence:
        """Run everything; all processes have ended when this returns."""
        site = self._site
        try:
            await site.start()
            with MemoryWatch(site.groups) as memory:
                with HealthWatch(site.http_port) as health:
                    await self._fight(on_progress)
                await self._drain()
            groups = {name: (group.peak_bytes, group.oom_kills) for name, group in site.groups}
            codes = await site.stop()
            self._problems += [
                f"{name} stopped with exit code {code}" for name, code in codes.items() if code
            ]
            ends = {name: program.ends for name, program in site.programs.items()}
            events, traces = site.events()
            return Evidence(
                self._seed,
                self.seconds,
                site.journal,
                site.clips,
                await site.rows(),
                [(device.role.node, device.messages) for device in self.devices],
                {device.role.node: Counter(device.troubles) for device in self.devices},
                self._attacked,
                health.pages,
                {name: memory.peak_bytes[name] for name in groups},
                {name: group.limit_bytes for name, group in site.groups},
                dict(memory.process_peak_bytes),
                sum(kills for _, kills in groups.values()),
                sum(map(len, ends.values()))
                + sum(n for event, n in events.items() if event.endswith("process ended")),
                events,
                traces,
                site.log_bytes(),
                self._problems,
            )
        finally:
            await site.close()

    # ------------------------------------------------------------------ the siege

    async def _fight(self, on_progress: Callable[["Run"], None]) -> None:
        """Attack while devices publish; then the devices get their receipts."""
        self._began_at = time.monotonic()
        devices = asyncio.gather(*(device.run() for device in self.devices))
        watching = asyncio.create_task(self._watch(on_progress))
        try:
            async with asyncio.TaskGroup() as attackers:
                attackers.create_task(self._freeze_sink())
                for bout in self._bouts:
                    await asyncio.sleep(self._began_at + bout.at_seconds - time.monotonic())
                    attackers.create_task(self._attack(bout))
            async with asyncio.timeout(RECEIPTS_SECONDS_MAX):
                await devices
        except TimeoutError:
            self._problems.append(
                f"not every receipt had come {RECEIPTS_SECONDS_MAX:.0f} s after the last attack"
            )
        finally:
            watching.cancel()
            devices.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await devices

    async def _attack(self, bout: Bout) -> None:
        attacked = self._attacked[bout.kind]
        attacked.bouts += 1
        self.attacks += 1
        self.under_way.add(bout.seed)
        attacker = await asyncio.create_subprocess_exec(
            *("nice", "-n", str(NICENESS), sys.executable, "-m", "tests.siege.attackers"),
            *(bout.kind, bout.seed, bout.address, str(bout.seconds)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(bout.seconds + OVERTIME_SECONDS):
                target = msgspec.json.encode(self._site.target())
                answers, words = await attacker.communicate(target)
            if attacker.returncode != 0:
                text = words.decode(errors="replace").strip()[-500:]
                self._problems.append(f"the attacker {bout.kind!r} has failed: {text}")
                return
            answered = msgspec.json.decode(answers, type=Answers)
            attacked.attempts += answered.attempts
            attacked.answers.update(answered.counts)
        except TimeoutError:
            self._problems.append(f"the attacker {bout.kind!r} did not end")
        finally:
            self.under_way.discard(bout.seed)
            if attacker.returncode is None:
                attacker.kill()
                await attacker.wait()

    async def _freeze_sink(self) -> None:
        """Freeze PostgreSQL for a while: the service has to keep what is waiting for it."""
        begin, end = FROZEN
        await asyncio.sleep(begin * self.seconds)
        self._site.postgres.freeze()
        try:
            await asyncio.sleep((end - begin) * self.seconds)
        finally:
            self._site.postgres.thaw()

    async def _watch(self, on_progress: Callable[["Run"], None]) -> None:
        while True:
            on_progress(self)
            await asyncio.sleep(0.5)

    @property
    def elapsed_seconds(self) -> float:
        return time.monotonic() - self._began_at

    # ------------------------------------------------------------------ afterwards

    async def _drain(self) -> None:
        """Wait until everything that is stored is delivered."""
        try:
            async with asyncio.timeout(DRAIN_SECONDS_MAX):
                while (await asyncio.to_thread(self._site.counts))[1] != 0:
                    await asyncio.sleep(0.5)
        except TimeoutError:
            _, backlog = await asyncio.to_thread(self._site.counts)
            self._problems.append(f"{backlog} deliveries wait after {DRAIN_SECONDS_MAX:.0f} s")
