"""Jobs that write lines into a file: some may be killed anywhere, some not."""

import asyncio
from pathlib import Path


class Ledger:
    def __init__(self, folder: Path) -> None:
        self.path = folder / "ledger"

    def clear(self) -> None:
        self.path.write_text("")

    def read(self) -> list[str]:
        return self.path.read_text().splitlines()

    def first_line(self, name: str) -> int:
        return int(getattr(self, name).__func__.__code__.co_firstlineno)

    def write(self, line: str) -> None:
        with self.path.open("a") as out:
            out.write(line + "\n")
            out.flush()

    def pay_carelessly(self, amount: int) -> None:
        self.write(str(amount))
        self.write(f"paid {amount}")
        amount += 0

    def pay_carefully(self, amount: int) -> None:
        line = f"paid {amount}"
        if line not in self.read():
            self.write(line)

    def pay_once(self, amount: int) -> None:
        if self.read():
            raise RuntimeError("paid already")
        self.write(str(amount))
        amount += 0

    def pay_all(self, amounts: list[int]) -> None:
        for amount in amounts:
            self.write(str(amount))

    async def pay_later(self, amount: int) -> None:
        await asyncio.sleep(0)
        self.write(str(amount))
        await asyncio.sleep(0)
