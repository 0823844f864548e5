"""Who looks at a page, and what of. Knows no HTTP."""

from typing import Literal, TypeAlias

from msgspec import Struct

from api.authentication import Caller
from domain.errors import Forbidden
from projections.scope import Scope

ViewerRole: TypeAlias = Literal["operator", "admin", "member"]

_OPEN_VIEW = (
    "without a master key the operator's pages only show: set GATEWAY_MASTER_KEY, start the gateway again and sign in "
    "with it, or sign in with an admin key of the project"
)

_NOT_IN_OPEN_VIEW = (
    "the log is shown to whoever has signed in: set GATEWAY_MASTER_KEY, start the gateway again and sign in with it, "
    "or sign in with an admin key of the project"
)


class Viewer(Struct, frozen=True, kw_only=True):
    """Who is signed in. An operator sees all projects, an admin its project, a member its own key."""

    role: ViewerRole
    project_id: str | None
    """None: an operator."""
    key_id: str | None
    csrf_token: str
    """Every form sends it back."""
    session_id: str | None = None
    """None: the operator's view that is open to this machine itself, in which nothing can be changed."""
    caller: Caller | None = None
    """An admin or a member as the key that it signed in with; None: an operator."""

    @property
    def may_change(self) -> bool:
        """True if the viewer has signed in."""
        return self.session_id is not None

    @property
    def name(self) -> str:
        """How the pages call the viewer."""
        if self.caller is None:
            return "operator"
        return f"{self.caller.settings.name} · {self.caller.project_name}"

    def require_change(self) -> None:
        """Require a viewer who has signed in.

        Raises:
            Forbidden: nobody has.

        """
        if not self.may_change:
            raise Forbidden(_OPEN_VIEW)

    def require_sign_in(self) -> None:
        """Require a viewer who has signed in, for what the open view does not show.

        Raises:
            Forbidden: nobody has.

        """
        if not self.may_change:
            raise Forbidden(_NOT_IN_OPEN_VIEW)

    def require_role(self, *roles: ViewerRole) -> None:
        """Require one of these roles.

        Raises:
            Forbidden: the viewer has another one.

        """
        if self.role not in roles:
            raise Forbidden(f"this page is for: {', '.join(roles)}")

    def scope(self, *, project_id: str | None = None, key_id: str | None = None) -> Scope:
        """What a report may count for the viewer, narrowed to the project and the key that a page asks for.

        A viewer who asks for more than it may see gets its own share.
        """
        match self.role:
            case "operator":
                return Scope(project_id=project_id, key_id=key_id)
            case "admin":
                return Scope(project_id=self.project_id, key_id=key_id)
            case "member":
                return Scope(project_id=self.project_id, key_id=self.key_id)
