defmodule Cryptoki.Groups do
  @moduledoc false
  # What callers need of the groups of this node without asking a process: by name and by pid in `:persistent_term`,
  # which is written when a group starts and when it stops, and of each a table that its process writes; callers write
  # one row, why they take a member out.
  #
  # Rows: `{:members, tuple}`; `{{:proof, use, selector}, mask, until}`, which members have the key (a bit each) and
  # when that is looked at again; `{{:key, use, selector, slot}, key}`, what names it there; `{{:proven, use,
  # selector}, identity, outcomes}`; `{{:why, numbers}, error}`, of a member; `{{:about, slot}, about}`, what its last
  # look has shown.

  # `router` is the module that runs verbs of a group, which stands above this one.

  alias Cryptoki.{Error, Session}
  alias Cryptoki.Group.Member

  @enforce_keys [
    :called,
    :pid,
    :table,
    :writes,
    :failover,
    :timeout,
    :reconnect,
    :identity,
    :router
  ]
  defstruct @enforce_keys

  @type t :: %__MODULE__{
          called: atom | pid,
          pid: pid,
          table: :ets.table(),
          writes: Member.id() | nil,
          failover: [atom],
          timeout: timeout,
          reconnect: %{min: pos_integer, max: pos_integer},
          identity: {module, atom},
          router: module
        }

  @doc "The group of a name or a pid; nil when there is none."
  @spec get(term) :: t | nil
  def get(name) when (is_atom(name) and name != nil) or is_pid(name),
    do: :persistent_term.get({__MODULE__, name}, nil)

  def get(_other), do: nil

  @doc "Makes it known, by its process."
  @spec put(t) :: :ok
  def put(%__MODULE__{called: called, pid: pid} = group) do
    for name <- Enum.uniq([called, pid]), do: :persistent_term.put({__MODULE__, name}, group)
    :ok
  end

  @doc "Forgets it."
  @spec delete(t) :: :ok
  def delete(%__MODULE__{called: called, pid: pid}) do
    # One that was started in its place has the name already.
    for name <- [called, pid], match?(%{pid: ^pid}, get(name)), do: erase(name)
    :ok
  end

  defp erase(name), do: :persistent_term.erase({__MODULE__, name})

  @doc "Runs a verb that came from another node: of a group by a member, on a session of one by the keys of the group."
  @spec here({module, atom, [term]}) :: term
  def here({_module, _function, [%Session{member: {group, _member}} = session | _rest]} = verb),
    do: group.router.on_session(session, verb)

  def here({module, function, [hsm | _rest] = arguments} = verb) do
    case get(hsm) do
      nil -> apply(module, function, arguments)
      group -> group.router.run(group, verb)
    end
  end

  def here({module, function, []}), do: apply(module, function, [])

  @doc "How long a call may take: until no other member is asked any more, and as long as the slowest takes."
  @spec patience(t) :: timeout
  def patience(group) do
    own = for member <- list(group), about = about(group, member), do: about.timeout

    if :infinity in [group.timeout | own],
      do: :infinity,
      else: group.timeout + Enum.max(own, fn -> 0 end)
  end

  @doc "Its members; none when its process is gone."
  @spec members(t) :: tuple
  def members(group), do: value(group, :members, {})

  @doc "The same as a list."
  @spec list(t) :: [Member.t()]
  def list(group), do: Tuple.to_list(members(group))

  @doc "The rows of a key of its table."
  @spec lookup(t, term) :: [tuple]
  def lookup(%__MODULE__{table: table}, key) do
    :ets.lookup(table, key)
  rescue
    # It goes with its process.
    ArgumentError -> []
  end

  @doc "The value of a row that has one; `none` when there is no such row."
  @spec value(t, term, term) :: term
  def value(group, key, none) do
    case lookup(group, key) do
      [{_key, value}] -> value
      [] -> none
    end
  end

  @doc "Why a member is out, or was, as it was said last."
  @spec why(t, Member.t()) :: Error.t() | nil
  def why(group, member), do: value(group, {:why, member.numbers}, nil)

  @doc "What its last look has shown of a member."
  @spec about(t, Member.t()) :: map | nil
  def about(group, member), do: value(group, {:about, member.slot}, nil)
end
