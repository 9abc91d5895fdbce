/** An access of a page walk to a table entry, told when it is done. */
export interface TableReference {
  /** 'PML5E', 'PML4E', 'PDPTE', 'PDE', 'PTE', 'EPT PML4E', …, 'SPPT'. */
  readonly table: string;
  /** Writes set accessed and dirty flags. */
  readonly access: 'read' | 'write';
  /** Host-physical. */
  readonly address: number;
  /** Bytes of the entry: 4 or 8. */
  readonly length: number;
  /** What it then holds. */
  readonly value: bigint;
}
