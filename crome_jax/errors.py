"""What a user did that cannot work, said so that they can mend it."""


class CromeError(Exception):
    """An error in what the user gave; the command line prints its message and exits with status 2."""


class Preempted(CromeError):
    """The machine was taken away; the run is saved. The command line exits with status 143, as after SIGTERM."""


class NotTogether(CromeError):
    """The processes of a run did not find each other: started again they may. The status is 3, as where one dies."""


class Diverged(CromeError):
    """A training whose loss or gradient is no longer finite, or a score that is not."""


class DataError(CromeError):
    """A record that cannot be used.

    Args:
        problem: what is wrong, as a clause ("is empty").
        file: the file that holds the record, where one does.
        record: one-based number of the record in its file (for JSONL: the line).
        field: name of the field at fault.
        fix: what the user can do about it.
    """

    def __init__(
        self,
        problem: str,
        *,
        file: str | None = None,
        record: int | None = None,
        field: str | None = None,
        fix: str = "mend or drop the record, or pass --skip-bad",
    ):
        self.problem, self.file, self.record, self.field, self.fix = problem, file, record, field, fix
        super().__init__(problem)

    def __str__(self) -> str:
        where = f"record {self.record} of {self.file}: " if self.record else f"{self.file}: " if self.file else ""
        field = f"'{self.field}' " if self.field else ""
        return f"{where}{field}{self.problem}; {self.fix}"

    def at(self, file: str, record: int | None = None) -> "DataError":
        """Return the same error with its place filled in."""
        return DataError(self.problem, file=file, record=record or self.record, field=self.field, fix=self.fix)
