"""What to do about refused messages, in words for those who look after the devices. Pure."""

from echo_ingest.almanac.refusals import ReasonKey
from echo_ingest.almanac.uncoded_reasons import code_of_text
from echo_ingest.reasons import code_of
from echo_ingest.sinks.registry import spec_of

OTHERWISE = "The reason above is all that is known. Once its cause is removed, retry."


def advice(sink: str | None, key: ReasonKey) -> str:
    """Return what to do about a reason of `sink`, or about that of dead letters where it is None.

    The code has the advice. Without a code, the words may tell it; otherwise the sink has advice
    for what the system behind it says.
    """
    code = code_of(key.code) or code_of_text(sink, key.text)
    if code is not None:
        return code.advice
    spec = None if sink is None else spec_of(sink)
    return OTHERWISE if spec is None else spec.advice
