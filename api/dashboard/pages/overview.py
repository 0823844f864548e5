"""The page behind `/`."""

from litestar import get
from litestar.response import Redirect

from api.dashboard.rendering import see
from api.vendors.paths import HOME_PATH


@get(HOME_PATH)
async def show_overview() -> Redirect:
    """Lead to the first page that there is."""
    return see("/sessions")


HANDLERS = (show_overview,)
