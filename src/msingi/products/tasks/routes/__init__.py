"""The HTTP face: the path fetches what the actor may see, the handler hands it on."""

from msingi.products.tasks.routes import details, projects, tasks

routes = [*projects.routes, *tasks.routes, *details.routes]
dependencies = {**projects.dependencies, **tasks.dependencies, **details.dependencies}
