defmodule Cryptoki.Group do
  alias Cryptoki.{Elsewhere, Error, Groups, HSM, KeyIdentity}
  alias Cryptoki.Group.{Compare, Options, Server, Status}
  alias Cryptoki.Options.Table

  @moduledoc """
  One name for several instances that hold the same keys: of different tokens, libraries and nodes.

      children = [
        {Cryptoki, name: MyApp.HSM1, library: "...", token: [label: "one"], pin: {:file, "/run/pin1"}},
        {Cryptoki, name: MyApp.HSM2, library: "...", token: [label: "two"], pin: {:file, "/run/pin2"}},
        {Cryptoki.Group,
         name: MyApp.HSMs, members: [MyApp.HSM1, MyApp.HSM2, {MyApp.HSM, :"b@host"}], writes: MyApp.HSM1}
      ]

      {:ok, signature} = Cryptoki.sign(MyApp.HSMs, [label: "invoice"], :sha256_rsa_pkcs, data)

  Every function of `Cryptoki` takes a group where it takes an instance, and so does what is built on them, such as
  `Cryptoki.X509` and `Cryptoki.JWS`; so do the functions here and there take `{MyApp.HSMs, :"a@host"}`, a group of another
  node. A group is no member of another. `guides/high_availability.md` says when to use one, and what to do with keys.

  ## Which key

  A name is not a key. Before a member is used for a key, it is proven that it has the same as the others: public keys
  are compared, that of a private key after a proof that it is its own; of secret keys the check value, which is three
  bytes long and finds mistakes, not forgeries. A member with another key of that name is not used for it, and
  `status/1` says so. Which of two is the key? The one that more than half of the members have, else the one of
  `writes:`, else the one that most have; when as many have one as the other it is `:key_ambiguous`. Once that is known
  it stays, until no member has it any more. A key that cannot be proven (it shows nothing of its public half, and does
  nothing that proves it) cannot be used in a group.

  A key just made on one member is that member's until it is seen elsewhere. Keys of a session, sessions of
  `Cryptoki.with_session/3`, and what was begun on them, are one member's, and their error says when it went.

  ## Which member

  Of two that are picked by chance the one where the call waits less: calls there, times what a call takes there lately. A
  member that is away, locked, or whose calls go overdue (three without a success between them) is *out*; it is tried
  again after a while (`reconnect:`), and when its token answers it is *half open*: it gets one call at a time, until one
  succeeds. One that fails again soon after is left alone for longer. `:busy` takes nobody out, nor does a call that waited
  in the queue for too long, nor a `timeout:` shorter than the member's own; where nothing was executed another member is asked.

  | verbs | where |
  |---|---|
  | `sign`, `verify`, `encrypt`, `decrypt`, `digest`, `random`, `wrap_key`, `find_one`, `attributes`, `public_key` and others with a key | any member that has the key |
  | `find`, `stream`, `library_info`, `slots`, `token_info`, `mechanisms`, `mechanism_info` | the one for writes when it is in, else any: what one member has |
  | `generate_key`, `create`, `import_key`, `import_certificate`, `unwrap_key`, `derive_key` and others that make | with `token: true` the one for writes; else any |
  | `update`, `copy`, `destroy`, `seed_random` | the one for writes; of a session's object its own |
  | `encrypt_stream`, `decrypt_stream` | any that has the key, for as long as it lasts |
  | `with_session` | any, for as long as it lasts: one that has not a key which is used in it says `:key_not_found`, and no other is asked |
  | `status`, `stop` | the group: all members in one |
  | `unlock`, `subscribe` | no: ask a member |

  ## When one fails

  Another member runs the call when the first has certainly not executed it. When it may have, only what makes no
  difference runs again: reads, verification, digests, decryption, and encryption with an IV that was given; the others by
  `failover:`. A PIN that was refused is tried on no other member. `timeout:` of a call is for all members together. An
  error has the member that answered in its `member`; telemetry names it for every call (`Cryptoki.Telemetry`).
  """

  @typedoc "An option of `start_link/1`, which says what each means."
  @type option :: unquote(Options.type())

  # Milliseconds for what asks no token, of a group on another node.
  @soon 15_000

  @typedoc "By its name or pid; one of another node as `{name, node}`."
  @type group :: atom | pid | {atom, node}

  @typedoc "As the options name it."
  @type member :: atom | pid | {atom, node}

  @typedoc "What `status/1` answers."
  @type status :: %{
          group: atom | pid,
          writes: member | nil,
          members: [map],
          in: non_neg_integer,
          left: %{members: non_neg_integer, sessions: non_neg_integer, keys_lost: [term]},
          keys: %{known: non_neg_integer, not_everywhere: [map]}
        }

  @typedoc "What `compare/3` answers."
  @type comparison :: %{
          same: non_neg_integer,
          differences: [
            %{
              class: term,
              label: String.t() | nil,
              id: binary | nil,
              what: :missing | :different | :unproven,
              members: %{member => :missing | {:key, pos_integer} | Error.t() | list}
            }
          ],
          unreachable: %{member => Error.t()}
        }

  @doc """
  Starts a group.

  #{Options.docs()}

  Returns when the members have been looked at for the first time, or after two seconds. They need not be there: a
  member that comes later is taken in. A wrong option raises `ArgumentError`.

      {:ok, group} = Cryptoki.Group.start_link(members: [MyApp.HSM1, MyApp.HSM2], writes: MyApp.HSM1)
  """
  @spec start_link([option] | map) :: GenServer.on_start()
  def start_link(options) do
    options = Options.cast!(options)
    Server.start_link(Map.put(options, :identity, {KeyIdentity, :of}))
  end

  @doc """
  The child of a supervisor, after its members of this node. The options are checked here already.

      iex> Cryptoki.Group.child_spec(name: MyApp.HSMs, members: [MyApp.HSM]).id
      MyApp.HSMs
  """
  @spec child_spec([option] | map) :: Supervisor.child_spec()
  def child_spec(options) do
    checked = Options.cast!(options)
    %{id: checked.name || __MODULE__, start: {__MODULE__, :start_link, [options]}, type: :worker}
  end

  @doc """
  What the group knows of itself; asks nobody.

    * `:members` are maps with `:member`, `:node`, `:state` (`:in`, `:half_open`, `:out`), `:reason` (the error it is out
      for), `:outstanding` (calls with it now), `:calls`, `:share` (of all calls of this node, from 0 to 1), `:failovers`
      (calls that went on to another), `:time` (what a call takes there lately, in microseconds), and `:health`,
      `:sessions`, `:queue`, `:token` as `Cryptoki.status/1` has them, at most a second old
    * `:in` is how many members take calls
    * `:left` is what is left when one more goes, the one with most sessions: `:members`, `:sessions`, and `:keys_lost`,
      the keys that only one of the members has that take calls
    * `:keys` has how many keys are `:known`, and those that are `:not_everywhere`: where they are `:on`, and for the
      members of `:not_on` why not: `:missing`, `:another_key`, `:not_asked` or an error

  Errors: `:shutdown` when there is no such group.

      iex> {:ok, group} = Cryptoki.Group.start_link(members: [MyApp.HSM])
      iex> {:ok, status} = Cryptoki.Group.status(group)
      iex> {status.in, status.left.members}
      {1, 0}
  """
  @spec status(group) :: {:ok, status} | {:error, Error.t()}
  def status(group), do: of(group, :status, {nil, nil}, @soon)

  @doc """
  What the members have, side by side: the objects that `selector` finds, those of the token when it says nothing.

    * `:same` is how many objects all members have, and the same
    * `:differences` are the others: `:missing` on some, `:different` keys under one class, label and id, or
      `:unproven` where nobody can tell. `:members` has for each member `:missing`, `{:key, number}` (the same number is the
      same key), an error, or a list where it has several of that name
    * `:unreachable` are the members that could not be asked, with their errors

  Each object is read on each member, a signature is made where only that proves which key it is: some milliseconds for each
  object. `timeout:` in milliseconds is for each request to a token. PKCS #11 v3.2, sections 5.7.5 and 5.7.7.

      iex> {:ok, group} = Cryptoki.Group.start_link(members: [MyApp.HSM])
      iex> {:ok, compared} = Cryptoki.Group.compare(group, label: "archive")
      iex> {compared.same, compared.differences}
      {1, []}
  """
  @spec compare(group, Cryptoki.key(), timeout: timeout) ::
          {:ok, comparison} | {:error, Error.t()}
  def compare(group, selector \\ [token: true], opts \\ []),
    do: of(group, :compare, {selector, timeout!(opts)}, :infinity)

  @doc """
  Waits until every member has what `selector` finds, and the same: until a key has been replicated. `timeout` is in
  milliseconds.

  Errors: `:timeout`, which says who has it not. PKCS #11 v3.2, section 5.7.7.

      iex> {:ok, group} = Cryptoki.Group.start_link(members: [MyApp.HSM])
      iex> Cryptoki.Group.await_key(group, [label: "archive"], 5_000)
      :ok
  """
  @spec await_key(group, Cryptoki.key(), timeout) :: :ok | {:error, Error.t()}
  def await_key(group, selector, timeout \\ 5_000),
    do: of(group, :await_key, {selector, timeout!(timeout: timeout)}, :infinity)

  defp timeout!(opts) do
    row = [cast: :timeout, default: 10_000, must: "milliseconds, at least 1, or :infinity"]
    Table.cast!(opts, [timeout: row], "option").timeout
  end

  # As a verb of it, on its node.
  defp of(name, function, {selector, timeout} = arguments, patience) do
    case {HSM.group(name), address(name)} do
      {%Groups{} = group, _here} ->
        answer(group, function, arguments)

      {nil, {name, node}} ->
        there = [nil, name, function, selector, timeout, %{timeout: patience}]
        Elsewhere.call(node, name, {__MODULE__, :here, there})

      {nil, nil} ->
        detail = "no group #{inspect(name)} is running on #{node()}"
        {:error, Error.new(:shutdown, detail)}
    end
  end

  defp address({name, node})
       when is_atom(name) and name != :global and is_atom(node) and node != node(),
       do: {name, node}

  defp address(pid) when is_pid(pid) and node(pid) != node(), do: {pid, node(pid)}
  defp address(_name), do: nil

  @doc false
  def here(nil, name, function, selector, timeout, _patience),
    do: of(name, function, {selector, timeout}, :infinity)

  defp answer(group, :status, _none), do: {:ok, Status.of(group)}

  defp answer(group, :compare, {selector, timeout}),
    do: {:ok, Compare.compare(group, selector, timeout)}

  defp answer(group, :await_key, {selector, timeout}), do: Compare.await(group, selector, timeout)
end
