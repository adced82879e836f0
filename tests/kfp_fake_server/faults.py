"""Failures of real servers, as switches. With all of them off, the server does what its documentation says."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Faults:
    """Numbers count down to zero, one for each request; other switches stay on until they are turned off."""

    lose_replies_to_creation: int = 0
    """A run is created, and the connection ends without an answer."""
    create_twice: int = 0
    """A creation makes two runs of one name, as behind a proxy that repeats requests."""
    errors: list[int] = field(default_factory=list)
    """Statuses with which the next requests are answered, before anything is done."""
    errors_after: list[int] = field(default_factory=list)
    """The same, but after the work was done."""
    retry_after: int = 0
    """The Retry-After of these errors in seconds; 0: without that header."""
    tokens: list[str] | None = None
    """Bearer tokens that are accepted; None: none is required."""
    requests_until_expiry: int | None = None
    """After this many requests all accepted tokens expire."""
    forbidden_namespaces: list[str] = field(default_factory=list)
    """Namespaces whose requests are answered with 403."""
    login_page: bool = False
    """A proxy answers with its login page, with status 200."""
    redirect: bool = False
    """A proxy redirects to its login page."""
    garbage: bool = False
    """Answers are cut off in the middle."""
    seconds: float = 0.0
    """Every answer is delayed by this many seconds."""
    frozen: bool = False
    """Clients see runs unchanged, even when steps change: the agent that reports them is away."""
    workflows_deleted: bool = False
    """Runs cannot be ended, and stay as they are: their workflows were deleted behind the server's back."""
    lying_deletion: bool = False
    """A deletion is answered with success, and does nothing."""
    orphaning_deletion: bool = False
    """A deletion forgets the run, and leaves its workflow with all its pods."""
    canceled_is_failed: bool = False
    """A run that was ended is reported as failed."""
