defmodule Cryptoki.Test.Jose do
  @moduledoc false
  # Other people's JOSE: jwcrypto and PyJWT, node's jose when test/support/node_jose has it, and
  # erlang-jose when Erlang has it.

  alias Cryptoki.JSON

  @compile {:no_warn_undefined, :jose}

  @doc "What jwcrypto and PyJWT answer to each request; see jose.py."
  @spec python([map]) :: [term]
  def python(requests), do: run(python_with_jwcrypto(), ["test/support/jose.py"], requests)

  # Debian's packages are those of Debian's Python, which need not be the first on the PATH.
  defp python_with_jwcrypto do
    if File.exists?("/usr/bin/python3"), do: "/usr/bin/python3", else: "python3"
  end

  @doc "Where node's jose is, or nil."
  @spec node_folder() :: Path.t() | nil
  def node_folder do
    case System.cmd(Path.expand("test/support/node_jose"), ["--if-there"]) do
      {"", 0} -> nil
      {folder, 0} -> String.trim(folder)
    end
  end

  @doc "Why it judges nothing, for `@tag skip:`."
  @spec lacks_node() :: false | String.t()
  def lacks_node,
    do:
      !node_folder() &&
        "node's jose is not there: bin/setup installs it where node 20 and npm are"

  @doc "What node's jose answers to each request; see jose.mjs."
  @spec node_jose([map]) :: [term]
  def node_jose(requests), do: run("node", ["test/support/jose.mjs", node_folder()], requests)

  defp run(command, arguments, requests) do
    file =
      Path.join(Cryptoki.Test.SoftHSM.directory(), "jose-#{System.unique_integer([:positive])}")

    File.write!(file, JSON.encode!(requests))
    # Arguments go through the shell as they are, for its redirection only.
    {text, status} = System.cmd("sh", ["-c", ~S(exec "$@" <"$0"), file, command | arguments])
    File.rm!(file)

    case status == 0 && JSON.decode(text) do
      {:ok, answers} ->
        answers

      _no_answer ->
        raise "#{command} cannot referee: bin/setup installs jwcrypto and PyJWT for it"
    end
  end

  @doc "Starts erlang-jose with our JSON; `false` when it is not there."
  @spec erlang_jose?() :: boolean
  def erlang_jose? do
    folder = :code.lib_dir() |> Path.join("jose-*/ebin") |> Path.wildcard() |> List.first()
    if folder, do: :code.add_pathz(to_charlist(folder))

    jose = :jose

    with {:ok, _} <- Application.ensure_all_started(jose) do
      jose.json_module(__MODULE__.Json)
      true
    else
      _not_there -> false
    end
  end

  defmodule Json do
    @moduledoc false
    # The two functions that erlang-jose wants of a JSON module.
    defdelegate encode(term), to: JSON, as: :encode!

    def decode(text) do
      {:ok, term} = JSON.decode(text)
      term
    end
  end
end
