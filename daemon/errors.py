"""What can go wrong in the daemon. Every error carries the code that the wire shows."""


class DaemonError(Exception):
    """Base of all errors of the daemon."""

    code = "internal_error"


# --- protocol -----------------------------------------------------------------------------------


class ProtocolError(DaemonError):
    """The client sent something that is no valid request; `recoverable` when the stream stands at the next frame."""

    code = "bad_request"
    recoverable = False


class MalformedFrame(ProtocolError):
    """Bytes that are no Wyoming frame."""

    code = "malformed_frame"


class FrameTooLong(ProtocolError):
    """A frame announces or holds more than the limits allow."""

    code = "frame_too_long"


class FrameTimeout(ProtocolError):
    """A frame's body did not arrive in time."""

    code = "frame_timeout"


class UnknownType(ProtocolError):
    """An event type that this server does not serve."""

    code = "unknown_type"


class EmptyText(ProtocolError):
    """Text without a single printable character."""

    code = "empty_text"


class TextTooLong(ProtocolError):
    """Text over `server.max_text_bytes`."""

    code = "text_too_long"


class NotUtf8(ProtocolError):
    """Text that is not valid UTF-8."""

    code = "not_utf8"


class TooManyConnections(DaemonError):
    """`server.max_connections` clients are connected."""

    code = "too_many_connections"


class ShuttingDown(DaemonError):
    """The daemon drains and takes nothing new."""

    code = "shutting_down"


# --- start-up -----------------------------------------------------------------------------------


class SocketInUse(DaemonError):
    """A live daemon, or a file that is no socket, is at the socket's path."""

    code = "socket_in_use"


class SocketPathTooLong(DaemonError):
    """The operating system cannot bind so long a path."""

    code = "socket_path_too_long"


class HomeInUse(DaemonError):
    """Another daemon works on the same data folder."""

    code = "home_in_use"


class MetricsPortInUse(DaemonError):
    """Something else listens where the metrics are to be served."""

    code = "metrics_port_in_use"


class DaemonUnreachable(DaemonError):
    """No daemon answers at the socket: there is none, it left, or it takes too long."""

    code = "daemon_unreachable"


class NobodyListens(DaemonUnreachable):
    """Nothing takes connections at the socket."""


# --- memory -------------------------------------------------------------------------------------


class JournalFull(DaemonError):
    """The journal's disk is full: nothing was accepted."""

    code = "journal_full"


class JournalCorrupt(DaemonError):
    """The journal's file is damaged."""

    code = "journal_corrupt"


class JournalUnavailable(DaemonError):
    """The journal's file cannot be opened, read or written, or the journal is closed."""

    code = "journal_unavailable"


class RecordRejected(DaemonError):
    """A record that JSON cannot hold: lone surrogates, numbers that are not finite."""

    code = "record_rejected"


class TurnIdReused(DaemonError):
    """A turn's id was used before, for another text."""

    code = "turn_id_reused"


class Backpressure(DaemonError):
    """More turns wait for the graphs than `journal.max_unsynced` allows."""

    code = "too_many_unsynced"


class UnknownEntry(DaemonError):
    """No journal entry or dead letter has this number."""

    code = "unknown_entry"


class GraphUnavailable(DaemonError):
    """The graph cannot be reached now; the write waits in the journal."""

    code = "graph_unavailable"


class GraphMisconfigured(GraphUnavailable):
    """The graph's server refuses the login or the database: the settings must change before it can be reached."""

    code = "graph_misconfigured"


class GraphRefused(DaemonError):
    """The graph will never take this data."""

    code = "graph_refused"
