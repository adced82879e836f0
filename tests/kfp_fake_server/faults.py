"""What goes wrong with real servers, as switches. All off, a server does what its documentation says."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Faults:
    """Numbers of requests count down to zero; the others hold until they are turned off."""

    lose_replies_to_creation: int = 0
    """A run is created, and the connection ends without an answer."""
    create_twice: int = 0
    """A creation makes two runs of one name, as a proxy that repeats requests does."""
    errors: list[int] = field(default_factory=list)
    """Statuses with which the next requests are answered, before anything is done."""
    errors_after: list[int] = field(default_factory=list)
    """The same, after everything is done."""
    retry_after: int = 0
    """Seconds that these errors ask to be left alone for; 0: they do not say."""
    tokens: list[str] | None = None
    """Bearer tokens that are taken; None: nobody is asked for one."""
    requests_until_expiry: int | None = None
    """After so many requests, all tokens that are taken now have expired."""
    forbidden_namespaces: list[str] = field(default_factory=list)
    """Answered with 403."""
    login_page: bool = False
    """A proxy answers with its login page, and with status 200."""
    redirect: bool = False
    """A proxy sends to its login page."""
    garbage: bool = False
    """Answers are cut off in the middle."""
    seconds: float = 0.0
    """Every answer comes so much later."""
    frozen: bool = False
    """Runs do not change any more for who asks, whatever becomes of their steps: the agent that reports them is away."""
    workflows_deleted: bool = False
    """Runs cannot be ended, and stay as they are: their workflows were deleted behind the server's back."""
    lying_deletion: bool = False
    """A deletion is answered with success, and does nothing."""
    orphaning_deletion: bool = False
    """A deletion forgets the run, and leaves its workflow with all its pods."""
    canceled_is_failed: bool = False
    """A run that was ended is called failed."""
